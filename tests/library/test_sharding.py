"""Four and eight pretended devices, or two real processes, end where one device ends."""

import json
import os
import socket
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.common import cli, devices
from qagrel_jax import rules, sharding
from tests.library import sharded_run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def one_device(folded_keys):
    with jax.numpy_rank_promotion("allow"):
        return sharded_run.arrays(*sharded_run.small_run())


def _start(out, shape, *several, devices):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", "tests.library.sharded_run", out, shape, *several],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags},
        stderr=subprocess.PIPE,
        text=True,
    )


def _free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def _check(path, expected):
    with np.load(path) as found:
        for streamed in (False, True):
            for i, value in enumerate(expected):
                np.testing.assert_allclose(found[f"{streamed}_{i}"], value, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "devices"),
    [
        ("2x2", 4),
        pytest.param("2x4", 8, marks=pytest.mark.slow),
        pytest.param("2x1", 2, marks=pytest.mark.slow),
    ],
)
def test_several_devices_are_one_device(one_device, tmp_path, shape, devices):
    process = _start(tmp_path / "out.npz", shape, devices=devices)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    _check(tmp_path / "out.npz", one_device)
    with np.load(tmp_path / "out.npz") as found:
        # Weight changes are added up over the devices; images and activities stay where they are.
        assert found["gathers_map"] == found["gathers_vmap"] == 0


def _on_two_devices(module, *arguments):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    answer = subprocess.run(
        [sys.executable, "-m", f"tests.library.{module}", *arguments],
        cwd=ROOT,
        text=True,
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        timeout=600,
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.mark.slow
def test_every_kind_of_feedback_on_two_devices_is_that_of_one():
    for distance, gathers in _on_two_devices("feedback_on_mesh").values():
        assert distance < 1e-5 and gathers == 0


@pytest.mark.skipif(jax.__version_info__ < (0, 10), reason="JAX's own random numbers fail there")
@pytest.mark.parametrize(
    "network, names",
    [
        ("dense", [name for name in rules.RULES if name != "relearnn"]),
        pytest.param("kinds", ["q_agrel"], marks=pytest.mark.slow),
        pytest.param("deep", ["q_agrel"], marks=pytest.mark.slow),
    ],
)
def test_on_a_mesh_of_explicit_axes_an_update_is_that_of_one_device(network, names):
    found = _on_two_devices("explicit_mesh", network, *names)
    assert list(found) == names and max(found.values()) < 5e-6


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["2x1", "1x2"])
def test_two_processes_are_one_device(one_device, tmp_path, shape):
    address = _free_address()
    processes = [
        _start(tmp_path / "out.npz", shape, address, "2", str(i), devices=1) for i in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    _check(tmp_path / "out.npz", one_device)


@pytest.mark.slow
def test_the_command_on_two_processes_trains_and_resumes(tmp_path):
    folder = tmp_path / "run"
    options = ["--rule", "q_agrel", "--hidden", "8", "--seeds", "2", "--epochs", "2", "--resume"]

    def run():
        several = ["--coordinator", _free_address(), "--processes", "2", "--process"]
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "experiments.train", *options, "--out", folder, *several, i],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in "01"
        ]
        answers = [process.communicate(timeout=300) for process in processes]
        assert [process.returncode for process in processes] == [0, 0], answers
        assert "test accuracy" in answers[0][0]
        assert "test accuracy" not in answers[1][0]
        return (folder / "metrics.jsonl").read_bytes()

    assert run() == run()
    assert (folder / "summary.json").is_file()


def _join(*arguments):
    parser = cli.Parser()
    devices.add_options(parser)
    return devices.join(parser.parse_args(arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mesh", "2x1"], r"a mesh of 2 x 1 \(seeds x batch\) does not fit 1 devices"),
        (["--processes", "2"], "go with --coordinator HOST:PORT"),
    ],
)
def test_what_cannot_be_joined_is_one_line(arguments, message):
    with pytest.raises(cli.UserError, match=message):
        _join(*arguments)


def test_options_of_the_mesh(capsys):
    assert _join() is None
    assert dict(_join("--mesh", "1x1").shape) == dict(_join("--mesh", "batch").shape)
    with pytest.raises(SystemExit):
        _join("--mesh", "many")
    assert "must be seeds, batch, or SEEDSxBATCH such as 2x4, got 'many'" in capsys.readouterr().err


def test_a_cpu_becomes_as_many_devices_as_the_mesh_needs():
    script = """
import argparse
from experiments.common import devices
parser = argparse.ArgumentParser()
devices.add_options(parser)
print(dict(devices.join(parser.parse_args(["--mesh", "3x1"])).shape))
"""
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert answer.stdout == "{'seeds': 3, 'batch': 1}\n", answer.stderr


def test_seeds_and_batches_must_divide_evenly():
    two = types.SimpleNamespace(shape={"seeds": 2, "batch": 1})
    devices.check(two, seeds=4, batch_size=16)
    with pytest.raises(cli.UserError, match="--seeds 5 does not divide evenly over 2 devices"):
        devices.check(two, seeds=5, batch_size=16)


def test_devices_left_over_are_refused_to_several_processes(monkeypatch):
    """One of them would have no part."""
    four = jax.devices() * 4
    monkeypatch.setattr(jax, "devices", lambda: four)
    assert dict(sharding.make_mesh().shape) == {"seeds": 1, "batch": 1}
    with pytest.raises(ValueError, match="does not fit 4 devices"):
        sharding.make_mesh(3, 2)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="devices of the 2 processes idle: use all 4"):
        sharding.make_mesh(3, 1)


def test_one_process_agrees_with_itself():
    assert [sharding.agree(flag) for flag in (True, False)] == [True, False]


def test_a_mesh_that_does_not_fit():
    with pytest.raises(ValueError, match=r"2 x 3 \(seeds x batch\) does not fit 1 devices"):
        sharding.make_mesh(2, 3)
