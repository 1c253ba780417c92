"""The folder of one run: it never mixes two runs, and survives a crash at any moment.

=========================  ======================================================================
``config.json``            what is run
``metrics.jsonl``          a line an epoch and rule; the same bytes whenever the run is repeated
``timings.jsonl``          wall-clock figures of the same epochs
``checkpoint_RULE.msgpack`` everything it takes to resume that rule, and of which rule and
                           config it is, with a checksum; replaced as a whole
``environments.jsonl``     device, versions, commit and command of every session, first to last
``summary.json``           results; it is there if and only if all rules are done
``failed.json``            why the run cannot continue, if it cannot
``learning_curves.png``    the pictures; so are ``class_discovery.png`` and, with feedback that is
                           not tied, ``angles.png``
``.lock``                  held by the process that works on the run
=========================  ======================================================================
"""

import itertools
from pathlib import Path
from typing import Any

from experiments import config as configs
from experiments.common import fields, files, folders
from experiments.common.cli import UserError
from experiments.config import Config


def saved_summary(folder: Path) -> dict[str, Any] | None:
    """Return the summary of the run in ``folder``; None if it is not finished."""
    return files.read_json(folder / "summary.json")


def check_summary(folder: Path, config: Config, content: dict[str, Any]) -> None:
    """Raise ``UserError`` unless the summary ``content`` is whole and of ``config``."""
    path = folder / "summary.json"
    try:
        run = configs.from_json(content["config"])
        rules = tuple(entry["rule"] for entry in content["results"])
    except (KeyError, TypeError, UserError):
        raise UserError(f"{path} is damaged: move it away and --resume") from None
    if different := fields.told(run, config, configs.difference(run, config)):
        raise UserError(f"{folder / configs.FILE} was edited after the run ({different})")
    if rules != config.rules:
        raise UserError(f"{path} is of the rules {', '.join(rules)}: move it away and --resume")


def missing_pictures(folder: Path, config: Config) -> list[str]:
    """Return the names of the pictures that a finished run lacks."""
    names = ["learning_curves.png", "class_discovery.png"]
    # Direct feedback has no forward weights beside it: angles of updates alone.
    measured = config.feedback != "direct" or config.angle_images > 0
    names += ["angles.png"] * (config.feedback != "tied" and measured)
    return [name for name in names if not (folder / name).is_file()]


def check(folder: Path, config: Config, resume: bool) -> bool:
    """Raise unless ``folder`` is free for the run of ``config``, or holds it; return whether.

    A run may be resumed for more ``epochs`` than it had: it is a function of its seeds.

    Raises:
      UserError: it holds another run, or files that are no run.
    """
    if not folders.check(folder, (configs.FILE,), resume):
        return False
    saved = configs.saved(folder)
    different = configs.difference(saved, config)
    if different == ["epochs"] and config.epochs > saved.epochs:
        return True
    if different:
        raise folders.other_config(folder, fields.told(saved, config, different))
    return True


def claim(folder: Path, config: Config, resume: bool) -> None:
    """Make ``folder`` the run of ``config``, after a ``check``; more epochs make it unfinished.

    Raises:
      UserError: as ``check``, or it cannot be written.
    """
    if check(folder, config, resume) and configs.saved(folder) == config:
        return
    with folders.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").unlink(missing_ok=True)
        files.write_json(folder / configs.FILE, configs.to_json(config))


def checkpoint(folder: Path, rule: str) -> Path:
    """Return where the checkpoint of ``rule`` is, or will be."""
    return folder / f"checkpoint_{rule}.msgpack"


def keep_aside(path: Path) -> Path:
    """Copy ``path`` to a name of its own beside it; return that."""
    numbers = itertools.count(1)
    names = (path.with_name(f"{path.stem}_before_{n}{path.suffix}") for n in numbers)
    copy = next(name for name in names if not name.exists())
    files.write_bytes(copy, path.read_bytes())
    return copy


def cut_lines(path: Path, rule: str, epoch: int) -> None:
    """Drop the lines of ``rule`` after ``epoch``: a resumed run writes them again."""
    kept = [
        line
        for line in files.read_metrics(path.parent, path.name)
        if line["rule"] != rule or line["epoch"] <= epoch
    ]
    files.write_lines(path, kept)
