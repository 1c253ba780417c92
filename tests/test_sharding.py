"""Eight pretended devices, or two real processes, end where one device ends."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from qagrel_jax import sharding, training
from tests import sharded_run

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def one_device():
    with jax.debug_key_reuse(False), jax.numpy_rank_promotion("allow"):
        return sharded_run.arrays(*sharded_run.small_run())


def _start(out, shape, *several, devices):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", "tests.sharded_run", out, shape, *several],
        cwd=ROOT, env={**os.environ, "XLA_FLAGS": flags}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _check(path, expected):
    with np.load(path) as found:
        for streamed in (False, True):
            for i, value in enumerate(expected):
                np.testing.assert_allclose(found[f"{streamed}_{i}"], value, atol=1e-5)


def test_eight_devices_are_one_device(one_device, tmp_path):
    process = _start(tmp_path / "out.npz", "2x4", devices=8)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    _check(tmp_path / "out.npz", one_device)


@pytest.mark.parametrize("shape", ["2x1", pytest.param("1x2", marks=pytest.mark.slow)])
def test_two_processes_are_one_device(one_device, tmp_path, shape):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [
        _start(tmp_path / "out.npz", shape, address, "2", str(i), devices=1) for i in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    _check(tmp_path / "out.npz", one_device)


def test_a_mesh_that_does_not_fit():
    with pytest.raises(ValueError, match=r"2 x 3 \(seeds x batch\) does not fit 1 devices"):
        sharding.make_mesh(2, 3)
    with pytest.raises(ValueError, match="seeds_by must be 'vmap' on a mesh"):
        training._across_seeds("map", sharding.make_mesh())
