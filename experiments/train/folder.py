"""The folder of one run: it never mixes two runs, and survives a crash at any moment.

=========================  ======================================================================
``config.json``            what is run
``metrics.jsonl``          a line an epoch and rule; the same bytes whenever the run is repeated
``timings.jsonl``          wall-clock figures of the same epochs
``checkpoint_RULE.msgpack`` everything it takes to go on with that rule; replaced as a whole
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


def holds_run(folder: Path) -> bool:
    """Whether ``folder`` holds a run, finished or not."""
    return (folder / "config.json").is_file()


def saved_config(folder: Path) -> Config:
    """Return the configuration of the run in ``folder``; ``UserError`` if it cannot be read."""
    path = folder / "config.json"
    try:
        return configs.from_json(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def saved_summary(folder: Path) -> dict[str, Any] | None:
    """Return the summary of the run in ``folder``; None if it is not finished."""
    return read_json(folder / "summary.json")


def read_json(path: Path) -> dict[str, Any] | None:
    """Return what ``path`` holds, None if there is no such file; ``UserError`` if unreadable."""
    try:
        return json.loads(path.read_text()) if path.is_file() else None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def check(folder: Path, config: Config, resume: bool) -> None:
    """Raise unless ``folder`` is free for the run of ``config``, or holds it.

    A run may go on for more ``epochs`` than it was started with: it is a function of its seeds.

    Raises:
      UserError: it holds another run, or files that are no run.
    """
    if not holds_run(folder):
        if folder.is_dir() and folders.visible(folder):
            raise UserError(f"{folder} holds files that are no run: choose another --out")
        return
    if not resume:
        raise UserError(f"{folder} holds another run: add --resume to go on with it, or "
                        "choose another --out")  # fmt: skip
    saved, wanted = configs.to_json(saved_config(folder)), configs.to_json(config)
    different = [key for key in wanted if saved.get(key) != wanted[key]]
    if different == ["epochs"] and config.epochs > saved["epochs"]:
        return
    if different:
        listed = ", ".join(f"{k} {saved.get(k)!r} there, {wanted[k]!r} here" for k in different)
        raise UserError(f"{folder} was started with a different config ({listed}): leave "
                        "these options out to resume, or choose another --out")  # fmt: skip


def claim(folder: Path, config: Config, resume: bool) -> None:
    """Make ``folder`` the run of ``config``, after a ``check``; more epochs make it unfinished.

    Raises:
      UserError: as ``check``, or it cannot be written.
    """
    check(folder, config, resume)
    if holds_run(folder) and saved_config(folder) == config:
        return
    with folders.writable(folder):
        (folder / "summary.json").unlink(missing_ok=True)
        files.write_json(folder / "config.json", configs.to_json(config))


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
    """Return the whole JSON lines of ``path``; one cut off by a crash is left out."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def cut_lines(path: Path, rule: str, epoch: int) -> None:
    """Drop the lines of ``rule`` after ``epoch``: a resumed run writes them again."""
    kept = [line for line in read_lines(path) if line["rule"] != rule or line["epoch"] <= epoch]
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in kept)
    files.write_bytes(path, text.encode())
