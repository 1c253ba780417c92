"""Whether a run fits the memory, on machines made up for it."""

import os
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from experiments.common import memory
from experiments.common.cli import UserError


def test_the_bytes_of_what_a_function_returns():
    def make(rows):
        return {"a": jnp.ones((rows.shape[0], 4), jnp.float32), "b": jnp.ones(2, jnp.int8)}

    assert memory.size(make, jnp.ones(3)) == 3 * 4 * 4 + 2


def test_more_than_there_is_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 2**30)
    memory.check(2**30, "networks", "--seeds")
    says = r"^networks take at least 1\.5 GiB, and there are 1\.0 GiB of memory: lower --seeds$"
    with pytest.raises(UserError, match=says):
        memory.check(3 * 2**29, "networks", "--seeds")
    with pytest.raises(UserError):
        memory.check(2**30 + 1, "networks", "--seeds")
    monkeypatch.setattr(memory, "available", lambda: None)
    memory.check(2**60, "networks", "--seeds")


@pytest.mark.parametrize(
    ("told", "devices", "there"),
    [
        ([{"bytes_limit": 3}, {"bytes_limit": 5}], 2, 8),
        ([{"bytes_limit": 3}, {"bytes_limit": 5}], 8, 4 * 8),  # of four processes
        ([{"bytes_limit": 3}, {}], 2, None),
        ([{"bytes_limit": 3}, None], 2, None),
        ([None], 1, None),
    ],
)
def test_accelerators_have_what_all_of_them_have(told, devices, there, monkeypatch):
    """Each process is told of its own devices alone."""
    own = [SimpleNamespace(memory_stats=lambda stats=stats: stats) for stats in told]
    others = [SimpleNamespace(memory_stats=lambda: None)] * (devices - len(own))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: own + others)
    monkeypatch.setattr(jax, "local_devices", lambda: own)
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    monkeypatch.setattr(jax, "local_device_count", lambda: len(own))
    assert memory.available() == there


MACHINE = 4096 * 1000


@pytest.mark.parametrize(
    ("limit", "there"),
    [("2000\n", 2000), ("max\n", MACHINE), (f"{2 * MACHINE}\n", MACHINE), (None, MACHINE)],
)
def test_a_cpu_has_the_machines_memory_or_what_its_container_may_use(
    limit, there, tmp_path, monkeypatch
):
    file = tmp_path / "memory.max"
    if limit is not None:
        file.write_text(limit)
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__, raising=False)
    monkeypatch.setattr(memory, "Path", {"/sys/fs/cgroup/memory.max": file}.__getitem__)
    assert memory.available() == there


def test_a_system_that_does_not_tell_is_unknown(monkeypatch):
    def sysconf(name):
        raise ValueError(name)

    monkeypatch.setattr(os, "sysconf", sysconf, raising=False)
    assert memory.available() is None
