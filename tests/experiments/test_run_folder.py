"""The files of a run survive what a crash leaves behind."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from experiments.common import folders
from experiments.common.cli import UserError
from experiments.train import checkpoints
from experiments.train import folder as run_folder


def test_a_torn_line_spoils_no_other(tmp_path):
    path = tmp_path / "lines.jsonl"
    run_folder.append_line(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"a": 2, "b"')
    run_folder.append_line(path, {"a": 3})
    run_folder.append_line(path, {"a": 4})
    assert run_folder.read_lines(path) == [{"a": 1}, {"a": 3}, {"a": 4}]


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    path = tmp_path / "checkpoint.msgpack"
    checkpoints.save(path, {"w": np.ones(3, np.float32)})
    with pytest.raises(UserError, match=r"expected shape \(5, 2\), got \(3,\)"):
        checkpoints.load(path, {"w": np.zeros((5, 2), np.float32)})


def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.msgpack"
    checkpoints.save(path, {"w": np.ones(3, np.float32)})

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=f"cannot read {path}: Permission denied"):
        checkpoints.load(path, {"w": np.ones(3, np.float32)})


def test_two_processes_do_not_work_in_one_folder(tmp_path):
    folder = tmp_path / "new" / "run"
    with folders.locked(folder):
        (folder / ".config.json.abc.tmp").write_text("being written")
        with pytest.raises(UserError, match="another process"), folders.locked(folder):
            pass
        assert (folder / ".config.json.abc.tmp").exists()
        assert folders.visible(folder) == []
    with folders.locked(folder):  # let go of; what a kill left there is gone
        assert not (folder / ".config.json.abc.tmp").exists()


def test_random_keys_keep_their_kind(tmp_path):
    tree = {"key": jax.random.key(3, impl="rbg")}
    checkpoints.save(tmp_path / "c", tree)
    back = checkpoints.load(tmp_path / "c", {"key": jax.random.key(0, impl="rbg")})
    assert jax.random.key_impl(back["key"]) == jax.random.key_impl(tree["key"])
    np.testing.assert_array_equal(
        jax.random.key_data(back["key"]), jax.random.key_data(tree["key"])
    )


def test_a_folder_for_something_new(tmp_path):
    folders.make_new(tmp_path / "a" / "b")
    (tmp_path / "a" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds another run or other files"):
        folders.make_new(tmp_path / "a")
    with pytest.raises(UserError, match="cannot write to"):
        folders.make_new(tmp_path / "a" / "thesis.txt" / "b")


class Old(NamedTuple):
    """What a version kept."""

    step: Any


class New(NamedTuple):
    """What a later one keeps."""

    step: Any
    curriculum: Any = None


def test_a_checkpoint_of_a_version_with_fewer_fields_is_read(tmp_path):
    """Where what came later is None; else it is refused."""
    checkpoints.save(tmp_path / "c", {"states": Old(np.int32(7))})
    back = checkpoints.load(tmp_path / "c", {"states": New(np.int32(0))})
    assert back == {"states": New(np.int32(7), None)}
    with pytest.raises(UserError, match="of another version"):
        checkpoints.load(tmp_path / "c", {"states": New(np.int32(0), np.zeros(2))})
    with pytest.raises(UserError, match="of another version"):
        checkpoints.load(tmp_path / "c", {"other": New(np.int32(0))})
