"""The files of a run survive what a crash leaves behind."""

import errno
import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments import config as configs
from experiments import plots
from experiments.common import cli, files, folders, saved
from experiments.common.cli import UserError
from experiments.train import folder as run_folder


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
        (kept / "config.json").write_text("{}")
        (kept / "metrics.jsonl").write_text("an epoch")
        raise UserError("diverged")
    assert {path.name for path in folders.visible(kept)} == {"config.json", "metrics.jsonl"}


def test_a_run_that_could_not_go_on_is_left_as_it_was(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with (
        pytest.raises(UserError, match="no data"),
        folders.claimed(tmp_path, ("config.json",), resume=True) as resumed,
    ):
        assert resumed
        raise UserError("no data")
    assert [path.name for path in folders.visible(tmp_path)] == ["config.json"]


def test_of_half_written_files_only_the_commands_own_are_removed(tmp_path):
    for name in ("config.json", "mine.tmp", ".config.json.abc.tmp"):
        (tmp_path / name).write_text("{}")
    with folders.claimed(tmp_path, ("config.json",), resume=True):
        pass
    names = {path.name for path in tmp_path.iterdir()} - {folders.LOCK}
    assert names == {"config.json", "mine.tmp"}


def test_whether_a_folder_can_be_written_to_leaves_no_trace(tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    folders.check_writable(there / "a" / "b")
    folders.check_writable(there)
    assert list(tmp_path.iterdir()) == [there] and not list(there.iterdir())
    (there / "file").touch()
    with pytest.raises(UserError, match="cannot write to"):
        folders.check_writable(there / "file" / "a")


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_a_folder_that_goes_while_it_is_written_is_one_line(tmp_path, how):
    folder = tmp_path / "run"
    with pytest.raises(UserError, match=r"was it removed or renamed\?"), folders.claimed(folder):
        shutil.rmtree(folder) if how == "removed" else folder.rename(tmp_path / "elsewhere")
        files.append_line(folder / "lines.jsonl", {"a": 1})


def test_errors_about_other_files_are_not_blamed_on_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError), folders.claimed(tmp_path / "run"):
        (tmp_path.parent / "nonesuch" / "data").read_bytes()


@pytest.mark.parametrize("named", ["as given", "from the root on", "without links"])
@pytest.mark.parametrize("given", ["run", "link", "../here/run"])
def test_errors_are_the_folders_whatever_it_is_called(given, named, tmp_path, monkeypatch):
    here = tmp_path / "here"
    (here / "run").mkdir(parents=True)
    (here / "link").symlink_to(here / "run")
    monkeypatch.chdir(here)
    names = {
        "as given": given,
        "from the root on": here / given,
        "without links": (here / given).resolve(),
    }
    said = f"cannot write to {given}: Read-only file system; choose another --out"
    with pytest.raises(UserError, match=said), folders.explained(Path(given)):
        raise OSError(errno.EROFS, "Read-only file system", f"{names[named]}/.lock")


def test_how_to_resume_can_be_pasted(tmp_path):
    folder = tmp_path / "my run; of the year's end"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt) as stop, cli.resumable("train", folder):
        raise KeyboardInterrupt
    assert shlex.split(str(stop.value))[-2:] == ["--out", str(folder)]


def test_the_home_of_nobody_is_one_line(capsys):
    parser = cli.Parser(prog="train")
    parser.add_argument("--out", type=cli.path)
    with pytest.raises(SystemExit):
        parser.parse_args(["--out", "~nosuchuser/runs"])
    assert "nobody's home folder is known as '~nosuchuser/runs'" in capsys.readouterr().err


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
    resume = "to resume: python -m experiments.train --resume --out"
    for begun, says in ((Path.is_dir, resume), (configs.holds_run, "nothing")):
        with (
            pytest.raises(KeyboardInterrupt, match=f"interrupted; {says}"),
            cli.resumable("train", tmp_path / "run", begun),
        ):
            raise KeyboardInterrupt


def test_more_epochs_take_the_pictures_of_fewer_away(tmp_path):
    config = configs.replace(configs.load("digits"), {"feedback": "random", "epochs": 2})
    run_folder.claim(tmp_path, config, resume=False)
    pictures = [tmp_path / f"{n}.png" for n in ("learning_curves", "class_discovery", "angles")]
    for path in (*pictures, tmp_path / "summary.json", tmp_path / "mine.png"):
        path.write_text("{}")
    run_folder.claim(tmp_path, config, resume=True)  # as it was
    assert all(path.is_file() for path in pictures)
    run_folder.claim(tmp_path, configs.replace(config, {"epochs": 3}), resume=True)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "mine.png"}


def test_a_picture_that_cannot_be_drawn_leaves_the_one_before(tmp_path):
    path = tmp_path / "curves.png"
    with plots.figure(path) as (_, axes):
        axes.plot([1, 2])
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG")

    class Torn(plots.Figure):
        def savefig(self, file, **options):
            file.write(b"half of it")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plots.save(Torn(), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_why_rules_cannot_continue(tmp_path):
    rules = ("q_agrel", "backprop")
    assert run_folder.failures(tmp_path, rules) == {}
    (tmp_path / "failed.json").write_text('{"error": "seed 0"}')  # which rule, it does not say
    assert run_folder.failures(tmp_path, rules) == {"q_agrel": "seed 0", "backprop": "seed 0"}
    run_folder.write_failures(tmp_path, {"backprop": "seed 1"})
    assert run_folder.failures(tmp_path, rules) == {"backprop": "seed 1"}
    assert files.read_json(tmp_path / "failed.json")["error"] == "seed 1"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(
    "markers, said", [((), "free some space, or"), (("config.json",), "free some space and resume")]
)
def test_of_a_full_disk_it_is_said_to_free_some_space(markers, said, number, tmp_path):
    run = folders.claimed(tmp_path / "run", markers)
    with pytest.raises(UserError, match=f"No space left; {said}"), run:
        raise OSError(number, "No space left")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("write", ["write_json", "append_line", "write_lines"])
def test_what_json_does_not_have_is_not_written(write, value, tmp_path):
    content = {"a": value}
    with pytest.raises(ValueError, match="not JSON compliant"):
        getattr(files, write)(tmp_path / "file", [content] if write == "write_lines" else content)
    assert not list(tmp_path.iterdir())


def test_what_is_written_is_on_the_disk(tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(os, "fsync", lambda number: sizes.append(os.fstat(number).st_size))
    for _ in range(2):
        files.append_line(tmp_path / "lines.jsonl", {"a": 1})
    files.write_bytes(tmp_path / "whole", b"12345")
    assert sizes == [len('{"a": 1}\n'), 2 * len('{"a": 1}\n'), 5]


def test_a_run_is_named_by_its_first_whole_session(tmp_path):
    path = tmp_path / "environments.jsonl"
    first = {"device": "a", "versions": {}, "commit": None, "command": "one"}
    files.write_lines(path, [{"device": "torn"}, first, first | {"command": "two"}])
    assert files.first_environment(tmp_path) == first
    assert [session["command"] for session in files.environments(tmp_path)] == ["one", "two"]
    path.write_text('{"device": "torn"}\n')
    with pytest.raises(UserError, match=r"environments\.jsonl is damaged"):
        files.first_environment(tmp_path)
    with pytest.raises(UserError, match="was removed or renamed"):
        files.first_environment(tmp_path / "gone")
