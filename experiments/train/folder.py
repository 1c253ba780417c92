"""The folder of one run: it never mixes two runs, and survives a crash at any moment.

=========================  ======================================================================
``config.json``            what is run
``metrics.jsonl``          a line an epoch and rule; the same bytes whenever the run is repeated
``timings.jsonl``          wall-clock figures of the same epochs; ``session`` counts from 0 the line
                           of ``environments.jsonl`` that says what an epoch was run on; ``seeds``
                           says whose epoch it was where seeds were trained apart and merged
``checkpoint_RULE.msgpack`` everything it takes to resume that rule, and of which rule and
                           config it is, with a checksum; replaced as a whole
``environments.jsonl``     device, versions, commit and command of every session, first to last,
                           and ``arrays``, a digest of the images and labels of an ``.npz`` file
``summary.json``           results; it is there if and only if all rules are done
``failed.json``            why rules cannot continue, if any cannot: the last ``error``, and each
                           rule's in ``rules``
``learning_curves.png``    the pictures; so are ``class_discovery.png`` and, with feedback that is
                           not tied, ``angles.png``
``.lock``                  held by the process that works on the run
=========================  ======================================================================
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import config as configs
from experiments.common import fields, files, folders
from experiments.common.cli import UserError
from experiments.config import Config

MOST_DIFFERENCES = 4
"""So many options that differ are listed one by one."""
PICTURES = ("learning_curves.png", "class_discovery.png", "angles.png")


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
    *names, angles = PICTURES
    # Direct feedback has no forward weights beside it: angles of updates alone.
    measured = config.feedback != "direct" or config.angle_images > 0
    names += [angles] * (config.feedback != "tied" and measured)
    return [name for name in names if not (folder / name).is_file()]


def remove_pictures(folder: Path) -> None:
    """Remove pictures of fewer epochs: once there is a summary, those that are there stay."""
    for name in PICTURES:
        (folder / name).unlink(missing_ok=True)


def session_number(line: dict[str, Any], environments: Sequence[dict[str, Any]]) -> int:
    """Return which of ``environments`` a line of ``timings.jsonl`` is of; an older one: the first.

    >>> session_number({"session": 1}, [{}, {}]), session_number({}, [{}, {}])
    (1, 0)
    """
    number = line.get("session")
    return number if isinstance(number, int) and 0 <= number < len(environments) else 0


def session(
    timings: Sequence[dict[str, Any]],
    environments: Sequence[dict[str, Any]],
    rule: str,
    seed: int | None = None,
) -> dict[str, Any]:
    """Return the one of ``environments`` that the first epoch of ``rule`` was run on.

    Args:
      timings: the lines of ``timings.jsonl``; where seeds were trained apart, each says whose.
      environments: of every session; none: so is what is returned.
      rule: its name.
      seed: whose first epoch; None: the first line's.
    """
    lines = (line for line in timings if line["rule"] == rule)
    first = next((line for line in lines if seed is None or seed in line.get("seeds", [seed])), {})
    return environments[session_number(first, environments)] if environments else {}


def saved_session(folder: Path, rule: str, seed: int | None = None) -> dict[str, Any]:
    """Return the ``session`` of a rule of the run in ``folder``."""
    timings = files.read_metrics(folder, "timings.jsonl")
    return session(timings, files.environments(folder), rule, seed)


def sessions_begun(folder: Path, rule: str) -> list[dict[str, Any]]:
    """Return each session in which seeds of ``rule`` began: one, unless they were trained apart."""
    environments = files.environments(folder)
    timings = files.read_metrics(folder, "timings.jsonl")
    lines = [line for line in timings if line["rule"] == rule and line["epoch"] == 1]
    numbers = dict.fromkeys(session_number(line, environments) for line in lines or [{}])
    return [environments[number] for number in numbers] if environments else []


def failures(folder: Path, rules: Sequence[str]) -> dict[str, str]:
    """Return why each of ``rules`` that cannot continue cannot; older files do not say which."""
    content = files.read_json(folder / "failed.json")
    if not content:
        return {}
    by_rule = content.get("rules")
    if not isinstance(by_rule, dict):
        return dict.fromkeys(rules, str(content.get("error", "it failed")))
    return {rule: str(by_rule[rule]) for rule in rules if rule in by_rule}


def write_failures(folder: Path, errors: dict[str, str]) -> None:
    """Write ``failed.json``: why rules cannot continue, at least one."""
    files.write_json(folder / "failed.json", {"error": [*errors.values()][-1], "rules": errors})


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
    if len(different) > MOST_DIFFERENCES:
        raise UserError(
            f"{folder} was started with a different config: it is of {saved.name}, and "
            f"{len(different)} options differ: leave the config and options out to resume, or "
            "choose another --out"
        )
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
        remove_pictures(folder)
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
