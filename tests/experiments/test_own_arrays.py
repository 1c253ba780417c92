"""A file of one's own arrays may change, though its name does not: runs are never mixed."""

import json
import shutil

import numpy as np
import pytest

from experiments import merge, tangent_kernel
from experiments.common import cli, provenance
from experiments.common.cli import UserError
from experiments.config import Config
from experiments.train import __main__ as train
from experiments.update_statistics import __main__ as update_statistics
from qagrel_jax import data

RNG = np.random.default_rng(0)
ARRAYS = {
    "train_images": RNG.integers(0, 256, (40, 4, 4, 1), np.uint8),
    "train_labels": np.arange(40) % 3,
    "test_images": RNG.integers(0, 256, (9, 4, 4, 1), np.uint8),
    "test_labels": np.arange(9) % 3,
}
OTHER = {name: array[::-1] for name, array in ARRAYS.items()}


def _config(path, first_seed=0):
    return Config(
        "own",
        str(path),
        "dense",
        hidden=(6,),
        batch_size=8,
        epochs=1,
        patience=9,
        rules=("backprop",),
        seeds=1,
        first_seed=first_seed,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    np.savez(folder / "birds.npz", **ARRAYS)
    train.run(_config(folder / "birds.npz"), folder / "0")
    return folder


@pytest.fixture
def own(trained, tmp_path):
    """A copy of the run and of its arrays, where they were."""
    shutil.copytree(trained / "0", tmp_path / "0")
    yield tmp_path
    np.savez(trained / "birds.npz", **ARRAYS)


@pytest.mark.parametrize("name", ARRAYS)
def test_a_run_does_not_go_on_with_other_arrays(name, own, trained, capsys):
    np.savez(trained / "birds.npz", **ARRAYS | {name: OTHER[name]})
    before = {path: path.read_bytes() for path in (own / "0").iterdir()}
    for main, arguments in (
        (train.main, ["--resume", "--epochs", "2", "--out", own / "0"]),
        (tangent_kernel.main, [own / "0", "--out", own / "measured"]),
    ):
        with pytest.raises(SystemExit):
            cli.run(main, [str(argument) for argument in arguments])
        said = capsys.readouterr().err
        assert f"birds.npz holds other arrays than when the run in {own / '0'} began" in said
    assert {path: path.read_bytes() for path in (own / "0").iterdir()} == before


def test_the_same_arrays_written_anew_go_on(own, trained):
    np.savez_compressed(trained / "birds.npz", **dict(reversed(ARRAYS.items())))
    train.main(["--resume", "--epochs", "2", "--out", str(own / "0")])
    assert len((own / "0" / "metrics.jsonl").read_text().splitlines()) == 2


def test_seeds_trained_on_other_arrays_are_not_merged(own, trained):
    train.run(_config(trained / "birds.npz", 1), own / "1")
    np.savez(trained / "birds.npz", **OTHER)
    train.run(_config(trained / "birds.npz", 1), own / "other")
    with pytest.raises(UserError, match=r"are not of one recipe: their .*npz hold other arrays"):
        merge.main([str(own / "0"), str(own / "other"), "--out", str(own / "01")])
    assert not (own / "01").exists()
    merge.main([str(own / "0"), str(own / "1"), "--out", str(own / "01")])
    sessions = [
        json.loads(line) for line in (own / "01" / "environments.jsonl").read_text().splitlines()
    ]
    assert len(sessions) == 2 and sessions[0]["arrays"] == sessions[1]["arrays"]


def test_update_statistics_do_not_go_on_with_other_arrays(tmp_path):
    path, config = tmp_path / "birds.npz", tmp_path / "birds.py"
    np.savez(path, **ARRAYS)
    given = f'Config("birds", {str(path)!r}, "dense", hidden=(6,), batch_size=8)'
    config.write_text(f"from experiments.config import Config\nconfig = {given}\n")
    out, options = ["--out", str(tmp_path / "out")], ["--rules", "backprop", "--seeds", "1"]
    update_statistics.main([str(config), *options, "--stages", "0", *out])
    (tmp_path / "out" / "measurements.jsonl").unlink()
    np.savez(path, **OTHER)
    with pytest.raises(UserError, match="holds other arrays"):
        update_statistics.main(["--resume", *out])


def test_a_set_with_a_version_has_no_digest():
    assert "arrays" not in provenance.environment(dataset=data.load("digits"))
