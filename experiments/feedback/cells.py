"""A cell: one network, one kind of feedback pathway, one rule, in a run folder of its own."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments import config as configs
from experiments.common.cli import UserError
from experiments.common.names import FEEDBACKS
from experiments.config import Config
from experiments.train import folder as run_folder
from experiments.train import idle
from experiments.train import results as run_results

TIED, OUTPUT_ONLY = "tied", "output_layer_only"
KINDS = (*FEEDBACKS, OUTPUT_ONLY)
DEFAULT_KINDS = (TIED, "kolen_pollack", "random", "sign", "direct", OUTPUT_ONLY)
DEFAULT_CONFIGS = ("mnist_dense",)
DEFAULTS = {"protocol": "clean", "epochs": 40, "seeds": 2}
"""In place of the config's own."""

NEVER = 10**9
"""Epochs of patience: no run stops early, so that all have equal budgets."""

WITHOUT = {**idle.WITHOUT, OUTPUT_ONLY: idle.WITHOUT[TIED]}
"""Settings that say nothing of a kind, and stay at their defaults."""


class Cell(NamedTuple):
    """What is trained, and where."""

    config: Config
    kind: str
    rule: str
    folder: Path

    @property
    def name(self) -> str:
        """As it is shown."""
        return f"{self.config.name}, {self.kind}, {self.rule}"

    @property
    def done(self) -> bool:
        """Whether its folder holds its results."""
        content = run_folder.saved_summary(self.folder)
        return content is not None and configs.saved(self.folder) == self.config


def plan(
    out: Path,
    config_names: tuple[str, ...],
    kinds: tuple[str, ...],
    rules: tuple[str, ...],
    given: Mapping[str, Any],
) -> list[Cell]:
    """Return the cells asked for, and check those that are begun.

    Args:
      out: the folder of them all.
      config_names: of the networks and their data.
      kinds: out of ``KINDS``.
      rules: learning rules.
      given: fields of ``Config`` that replace a config's own; ``hidden`` those of dense networks.

    Raises:
      UserError: a setting out of range; a cell that was begun with other settings; further seeds
        of a cell that do not follow its seeds, or are of other settings.
    """
    cells = []
    for name in config_names:
        base = configs.load(name)
        own = {**DEFAULTS, **given, "patience": NEVER}
        if base.architecture != "dense" and len(config_names) > 1:
            own.pop("hidden", None)
        for kind in kinds:
            for rule in rules:
                config = configs.replace(base, own | {"rules": (rule,)} | settings_of(kind, own))
                place = out / config.name / kind / rule
                further = f"{run_results.FURTHER_SEEDS}{config.first_seed}"
                folder = place.with_name(rule + further * (config.first_seed > 0))
                begun = run_folder.check(folder, config, resume=True)
                _check_seeds(place, folder, config, begun)
                cells.append(Cell(config, kind, rule, folder))
    return cells


def _check_seeds(place: Path, folder: Path, config: Config, begun: bool) -> None:
    """Raise unless the cell and the further seeds beside it are, or will be, one run.

    Args:
      place: the folder of the first seeds.
      folder: the one that is to be trained.
      config: what is trained there.
      begun: whether it holds that run. It may then get more epochs than the others have so far:
        they get them afterwards.

    Raises:
      UserError: the seeds overlap or leave a gap, or the settings differ.
    """
    there = [
        (path, configs.saved(path))
        for path in (place, *run_results.further(place))
        if path != folder and configs.holds_run(path)
    ]
    parts = sorted([*there, (folder, config)], key=lambda part: part[1].first_seed)
    problem = run_results.of_another_recipe(parts, begun) or run_results.not_in_a_row(parts)
    if problem:
        raise UserError(
            f"{problem}: give the same settings and the --first-seed that follows, or another --out"
        )


def settings_of(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``Config`` that make a network one of ``kind``."""
    defaults = {name: Config.__dataclass_fields__[name].default for name in WITHOUT[TIED]}
    named = {name: given[name] for name in defaults if name in given}
    own = {name: value for name, value in named.items() if name not in WITHOUT.get(kind, ())}
    return {
        **defaults,
        **own,
        "feedback": TIED if kind == OUTPUT_ONLY else kind,
        "trained_layers": "output" if kind == OUTPUT_ONLY else "all",
    }


def found(out: Path) -> Iterator[tuple[str, str, str, run_results.RunResults]]:
    """Yield ``(config, kind, rule, results)`` of every cell in ``out`` that has done an epoch."""
    folders = [path for path in out.glob("*/*/*") if configs.holds_run(path)]
    places = {}
    for folder in folders:
        rule, _, _ = folder.name.partition(run_results.FURTHER_SEEDS)
        places[folder.parent.parent.name, folder.parent.name, rule] = folder.with_name(rule)
    for config, kind, rule in sorted(places, key=_place):
        run = run_results.read(places[config, kind, rule])
        if kind in KINDS and run is not None and run.ran(rule):
            yield config, kind, rule, run


def _place(cell: tuple[str, str, str]) -> tuple[str, str, int]:
    config, kind, rule = cell
    return config, rule, KINDS.index(kind) if kind in KINDS else len(KINDS)
