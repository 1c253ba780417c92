"""The files of a run survive what a crash leaves behind."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments import config as configs
from experiments.common import cli, files, folders, saved
from experiments.common.cli import UserError


def test_a_torn_line_spoils_no_other(tmp_path):
    path = tmp_path / "lines.jsonl"
    files.append_line(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"a": 2, "b"')
    files.append_line(path, {"a": 3})
    files.append_line(path, {"a": 4})
    assert files.read_lines(path) == [{"a": 1}, {"a": 3}, {"a": 4}]


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    path = tmp_path / "checkpoint.msgpack"
    saved.save(path, {"w": np.ones(3, np.float32)}, {})
    with pytest.raises(UserError, match=r"expected shape \(5, 2\), got \(3,\)"):
        saved.load(path, {"w": np.zeros((5, 2), np.float32)}, {})


def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.msgpack"
    saved.save(path, {"w": np.ones(3, np.float32)}, {})

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=f"cannot read {path}: Permission denied"):
        saved.load(path, {"w": np.ones(3, np.float32)}, {})


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


def test_a_folder_for_something_new(tmp_path):
    with folders.claimed(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "result").touch()
    (tmp_path / "a" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds another run or other files"):
        folders.check(tmp_path / "a")
    with pytest.raises(UserError, match="is not a folder"):
        folders.check(tmp_path / "a" / "thesis.txt")
    with (
        pytest.raises(UserError, match="cannot write to"),
        folders.claimed(tmp_path / "a" / "thesis.txt" / "b"),
    ):
        pass


def test_nothing_is_left_of_a_run_that_could_not_begin(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    for folder in (tmp_path / "new" / "run", kept):
        with pytest.raises(UserError, match="no data"), folders.claimed(folder, ("config.json",)):
            (folder / "config.json").write_text("{}")
            (folder / "metrics.jsonl").touch()
            raise UserError("no data")
    assert list(tmp_path.iterdir()) == [kept] and not list(kept.iterdir())
    with pytest.raises(UserError), folders.claimed(kept, ("config.json",)):
        (kept / "metrics.jsonl").write_text("an epoch")
        raise UserError("diverged")
    assert (kept / "metrics.jsonl").exists()


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_a_folder_that_goes_while_it_is_written_is_one_line(tmp_path, how):
    folder = tmp_path / "run"
    with pytest.raises(UserError, match=r"was it removed or renamed\?"), folders.claimed(folder):
        shutil.rmtree(folder) if how == "removed" else folder.rename(tmp_path / "elsewhere")
        files.append_line(folder / "lines.jsonl", {"a": 1})


def test_errors_about_other_files_are_not_blamed_on_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError), folders.claimed(tmp_path / "run"):
        (tmp_path.parent / "nonesuch" / "data").read_bytes()


def test_damaged_lines_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"rule": "a", "epoch": 1}\n\xff\xfe{"rule"\n17\n[1]\n{"rule": "a"}\n')
    assert files.read_lines(path) == [{"rule": "a", "epoch": 1}, {"rule": "a"}]
    assert files.read_metrics(tmp_path) == [{"rule": "a", "epoch": 1}]


@pytest.mark.parametrize("content", [b"[]", b"3", b"\xff", b"{", b'"x"', b"[" * 100_000])
def test_a_json_file_that_is_no_mapping_is_one_line(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read .*config\.json"):
        configs.saved(tmp_path)


def test_a_broken_pipe_is_not_blamed_on_the_folder(tmp_path):
    with pytest.raises(BrokenPipeError), folders.explained(tmp_path):
        raise BrokenPipeError


def test_what_has_not_begun_cannot_be_resumed(tmp_path):
    (tmp_path / "run").mkdir()
    for begun, says in ((Path.is_dir, "to resume: --resume --out"), (configs.holds_run, "nothing")):
        with (
            pytest.raises(KeyboardInterrupt, match=f"interrupted; {says}"),
            cli.resumable(tmp_path / "run", begun),
        ):
            raise KeyboardInterrupt
