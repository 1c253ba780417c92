"""Configurations: files by name, JSON in the folder of a run, changes, comparison."""

import dataclasses
import json
import re
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.common import cli, display, fields, files
from experiments.common.cli import UserError
from experiments.common.config_fields import Config

CONFIGS = Path(__file__).resolve().parent / "configs"
DEFAULT = "digits"
FILE = "config.json"
"""What the configuration of a run is called in the run's folder."""


def load(name: str) -> Config:
    """Load ``experiments/configs/<name>.py``, or the path of a file of the same kind.

    Raises:
      UserError: no such configuration (lists those there are), or a file without ``config``.
    """
    path = Path(name) if name.endswith(".py") else CONFIGS / f"{name}.py"
    if name not in names() and not name.endswith(".py"):
        raise UserError(cli.unknown("config", name, names()))
    if not path.is_file():
        raise UserError(f"config {name} does not exist")
    try:
        content = runpy.run_path(str(path), run_name=f"config_{path.stem}")
    except (Exception, SystemExit) as error:
        what = "it calls exit" if isinstance(error, SystemExit) else str(error)
        raise UserError(f"config {path}: {what or type(error).__name__}") from error
    if not isinstance(content.get("config"), Config):
        raise UserError(f"config {path} does not define `config = Config(...)`")
    return content["config"]


def names() -> list[str]:
    """Return the names of all configurations."""
    return sorted(path.stem for path in CONFIGS.glob("*.py") if not path.stem.startswith("_"))


def to_json(config: Config) -> dict[str, Any]:
    """Return ``config`` as a JSON-ready dictionary."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_json(content: Mapping[str, Any]) -> Config:
    """Return the ``Config`` that ``to_json`` wrote.

    One that does not name ``last_batch`` is of a version that left it out.

    Raises:
      UserError: fields missing, unknown or out of range.
    """
    if not isinstance(content, dict):
        raise UserError(f"not a config: {str(content)[:40]!r} is no mapping")
    try:
        given = {"last_batch": "drop", **fields.renamed(Config, content)}
        fields.check_names(Config, given)
        return Config(**fields.as_given(given))
    except TypeError as error:
        raise UserError(f"not a config of this version: {error}") from None


def as_now(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``to_json`` of an earlier version wrote as this version writes it.

    Raises:
      UserError: as ``from_json``.
    """
    return to_json(from_json(content))


def holds_run(folder: Path) -> bool:
    """Whether ``folder`` holds a run, finished or not."""
    return (folder / FILE).is_file()


def check_run(folder: Path) -> None:
    """Raise ``UserError`` unless ``folder`` holds a run."""
    if not holds_run(folder):
        raise UserError(f"{folder} holds no run (no {FILE})")


def saved(folder: Path) -> Config:
    """Return the configuration of the run in ``folder``; ``UserError`` if it cannot be read."""
    path = folder / FILE
    content = files.read_json(path)
    if content is None:
        raise UserError(f"{path} does not exist")
    try:
        return from_json(content)
    except UserError as error:
        raise UserError(
            f"{path} is of no run of experiments.train, or of another version: give another "
            f"folder ({error})"
        ) from None


def replace(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return ``config`` with ``changes``, checked again."""
    return dataclasses.replace(config, **changes)


def override(config: Config, given: Mapping[str, Any]) -> Config:
    """Return ``config`` with what a person gave instead; its name says other images or networks.

    >>> from experiments import config as configs
    >>> configs.override(configs.load("mnist_conv"), {"dataset": "fashion_mnist"}).name
    'fashion_mnist_conv'
    >>> configs.override(configs.load("mnist_conv"), {"dataset": "data/birds.npz"}).name
    'birds_conv'
    """
    if given.get("architecture", "dense") != "dense" and "hidden" not in given:
        given = {**given, "hidden": None}  # of the config's dense network
    changed = replace(config, given)
    name = config.name
    for was, now in (
        (config.dataset, changed.dataset),
        (config.architecture, changed.architecture),
    ):
        if was != now:
            plain = re.sub(r"[^\w.+-]", "_", display.identifier(now))
            name = name.replace(was, plain) if was in name else f"{name}_{plain}"
    return replace(changed, {"name": name})


def difference(there: Config, here: Config) -> list[str]:
    """Return the names of the fields in which two configurations differ, less their names."""
    return [name for name in fields.difference(there, here) if name != "name"]
