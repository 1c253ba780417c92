"""The folder of one run: it never mixes two runs, and survives a crash at any moment.

=========================  ======================================================================
``config.json``            what is run
``metrics.jsonl``          a line an epoch and rule; the same bytes whenever the run is repeated
``timings.jsonl``          wall-clock figures of the same epochs
``checkpoint_RULE.msgpack`` everything it takes to go on with that rule, and of which rule and
                           config it is, with a checksum; replaced as a whole
``environments.jsonl``     device, versions, commit and command of every sitting, first to last
``summary.json``           results; it is there if and only if all rules are done
``failed.json``            why the run cannot go on, if it cannot
``learning_curves.png``    the pictures; so are ``class_discovery.png`` and, with feedback that is
                           not tied, ``angles.png``
``.lock``                  held by the process that works on the run
=========================  ======================================================================
"""

import json
import os
from pathlib import Path
from typing import Any

from experiments import config as configs
from experiments.common import files, folders
from experiments.common.cli import UserError
from experiments.config import Config

CONFIG = "config.json"


def holds_run(folder: Path) -> bool:
    """Whether ``folder`` holds a run, finished or not."""
    return (folder / CONFIG).is_file()


def saved_config(folder: Path) -> Config:
    """Return the configuration of the run in ``folder``; ``UserError`` if it cannot be read."""
    path = folder / CONFIG
    content = read_json(path)
    if content is None:
        raise UserError(f"{path} does not exist")
    try:
        return configs.from_json(content)
    except UserError as error:
        raise UserError(f"cannot read {path}: {error}") from None


def saved_summary(folder: Path) -> dict[str, Any] | None:
    """Return the summary of the run in ``folder``; None if it is not finished."""
    return read_json(folder / "summary.json")


def check_summary(folder: Path, config: Config, content: dict[str, Any]) -> None:
    """Raise ``UserError`` unless the summary ``content`` is whole and of ``config``."""
    path = folder / "summary.json"
    try:
        run = configs.from_json(content["config"])
        rules = tuple(entry["rule"] for entry in content["results"])
    except (KeyError, TypeError, UserError):
        raise UserError(f"{path} is damaged: move it away and --resume") from None
    if different := _told(run, config, configs.difference(run, config)):
        raise UserError(f"{folder / CONFIG} was edited after the run ({different})")
    if rules != config.rules:
        raise UserError(f"{path} is of the rules {', '.join(rules)}: move it away and --resume")


def missing_pictures(folder: Path, config: Config) -> list[str]:
    """Return the names of the pictures that a finished run lacks."""
    names = ["learning_curves.png", "class_discovery.png"]
    names += ["angles.png"] * (config.feedback != "tied")
    return [name for name in names if not (folder / name).is_file()]


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the mapping in ``path``, None if there is no such file; ``UserError`` if damaged."""
    try:
        content = json.loads(path.read_bytes()) if path.is_file() else None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if content is not None and not isinstance(content, dict):
        raise UserError(f"cannot read {path}: it holds {str(content)[:40]!r}, not a mapping")
    return content


def check(folder: Path, config: Config, resume: bool) -> bool:
    """Raise unless ``folder`` is free for the run of ``config``, or holds it; return whether.

    A run may go on for more ``epochs`` than it was started with: it is a function of its seeds.

    Raises:
      UserError: it holds another run, or files that are no run.
    """
    if not folders.check(folder, (CONFIG,), resume):
        return False
    saved = saved_config(folder)
    different = configs.difference(saved, config)
    if different == ["epochs"] and config.epochs > saved.epochs:
        return True
    if different:
        raise UserError(f"{folder} was started with a different config "
                        f"({_told(saved, config, different)}): leave these options out to resume, "
                        "or choose another --out")  # fmt: skip
    return True


def claim(folder: Path, config: Config, resume: bool) -> None:
    """Make ``folder`` the run of ``config``, after a ``check``; more epochs make it unfinished.

    Raises:
      UserError: as ``check``, or it cannot be written.
    """
    if check(folder, config, resume) and saved_config(folder) == config:
        return
    with folders.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").unlink(missing_ok=True)
        files.write_json(folder / CONFIG, configs.to_json(config))


def _told(there: Config, here: Config, names: list[str]) -> str:
    return ", ".join(
        f"{name} {getattr(there, name)!r} there, {getattr(here, name)!r} here" for name in names
    )


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Add one JSON line to ``path``; it is on the disk when this returns."""
    line = json.dumps(content, allow_nan=False) + "\n"
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a line cut off by a crash must not spoil this one
                line = "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of ``path``; a line that a crash cut off, or damaged, is left out."""
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    lines = []
    for text in content.splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def read_metrics(
    folder: Path, name: str = "metrics.jsonl", needed: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Return the lines in ``folder`` that have a rule, an epoch and what else is needed."""
    return [
        line
        for line in read_lines(folder / name)
        if {"rule", "epoch", *needed} <= line.keys() and isinstance(line["epoch"], int)
    ]


def first_environment(folder: Path) -> dict[str, Any]:
    """Return what the first session ran on, which names the run: a later one only went on."""
    if not (named := environments(folder)):
        raise UserError(f"{folder / 'environments.jsonl'} is damaged: choose another --out")
    return named[0]


def environments(folder: Path) -> list[dict[str, Any]]:
    """Return what each session ran on; lines that do not tell it are left out."""
    known = {"device", "versions", "commit", "command"}
    lines = read_lines(folder / "environments.jsonl")
    return [line for line in lines if known <= line.keys()]


def cut_lines(path: Path, rule: str, epoch: int) -> None:
    """Drop the lines of ``rule`` after ``epoch``: a resumed run writes them again."""
    kept = [
        line
        for line in read_metrics(path.parent, path.name)
        if line["rule"] != rule or line["epoch"] <= epoch
    ]
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in kept)
    files.write_bytes(path, text.encode())
