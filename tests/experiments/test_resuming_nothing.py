"""Folders without a run to resume, or with that of another command: one line, nothing started."""

import ast
import json

import pytest

from experiments import __main__ as listing
from experiments import config as configs
from experiments.common import cli, folders
from experiments.common.cli import UserError
from experiments.controls import __main__ as controls
from experiments.curve_tracing import __main__ as curve_tracing
from experiments.train import __main__ as train
from experiments.update_statistics import __main__ as update_statistics
from experiments.working_memory import __main__ as working_memory

COMMANDS = (train, curve_tracing, working_memory, controls, update_statistics)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.__name__.split(".")[1])
def test_a_folder_that_is_not_there_is_not_resumed(command, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        cli.run(command.main, ["--resume", "--out", str(tmp_path / "typo")])
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "typo holds no" in line and "to resume: check --out, or " in line
    assert not (tmp_path / "typo").exists()


def test_what_is_named_starts_where_nothing_is(tmp_path, capsys):
    folders.start_instead(tmp_path / "new", ("config.json",), True)
    assert "new holds no run yet: starting one" in capsys.readouterr().err
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(UserError, match="files that are no run"):
        folders.start_instead(tmp_path, ("config.json",), True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", COMMANDS[:3], ids=lambda c: c.__name__.split(".")[1])
def test_a_run_of_another_command_is_told_by_its_fields(command, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"task": "saccade", "hue": 3}))
    with pytest.raises(SystemExit) as error:
        cli.run(command.main, ["--resume", "--out", str(tmp_path)])
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "of another command or version: it has " in line and "hue" in line
    assert "__init__" not in line


def test_a_run_of_another_config_is_named_not_listed(tmp_path, capsys):
    saved = configs.to_json(configs.load("digits_fast"))
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with pytest.raises(SystemExit):
        cli.run(train.main, ["mnist_conv", "--resume", "--out", str(tmp_path)])
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "it is of digits_fast, and" in line and "leave the config" in line


def test_every_command_is_listed(capsys):
    listing.main()
    shown = capsys.readouterr().out
    names = {name for name in listing.commands()}
    assert {"train", "report", "working_memory", "export"} <= names and "__main__" not in names
    for name in names:
        assert f"\n  {name} " in shown
        folder, file = listing.HERE / name / "__main__.py", listing.HERE / f"{name}.py"
        source = (folder if folder.is_file() else file).read_text()
        assert "def main(" in source and ast.get_docstring(ast.parse(source))
