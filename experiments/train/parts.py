"""Runs whose rules or seeds were trained apart: of which run they are the parts."""

import itertools
from pathlib import Path

from experiments import config as configs
from experiments.common import fields, files
from experiments.common.cli import UserError
from experiments.config import Config
from experiments.train import folder as run_folder
from experiments.train import results as run_results

Parts = dict[Path, Config]
"""What each of the folders trains."""

MAY_DIFFER = ("rules", "seeds", "first_seed")


def merged(parts: Parts) -> Config:
    """Return the configuration of which ``parts`` are the rules and seeds.

    Raises:
      UserError: runs that differ in more, or in their arrays, have a rule of a seed in common, lack
        one, or are of further seeds and not finished.
    """
    (first, config), *others = parts.items()
    for folder, other in others:
        different = [n for n in configs.difference(config, other) if n not in MAY_DIFFER]
        if different:
            told = fields.told(config, other, different, ("in the first", "in the second"))
            raise UserError(f"{first} and {folder} are not of one recipe: {told}")
    _check_arrays(parts)
    groups = by_seeds(parts)
    rules = [_rules(group) for group in groups]
    if len(groups) > 1:
        _check_groups(groups, rules)
    seeds = sum(next(iter(group.values())).seeds for group in groups)
    start = min(other.first_seed for other in parts.values())
    # In the order in which the rules were given first.
    ordered = dict.fromkeys(rule for other in parts.values() for rule in other.rules)
    return configs.replace(config, {"rules": tuple(ordered), "seeds": seeds, "first_seed": start})


def _check_arrays(parts: Parts) -> None:
    """Raise unless arrays of one's own, as far as the parts tell them, are the same in all."""
    first: dict[str, Path] = {}
    for folder in parts:
        for line in files.environments(folder):
            if "arrays" in line:
                first.setdefault(line["arrays"], folder)
    if len(first) > 1:
        one, other, *_ = first.values()
        name = parts[other].dataset
        raise UserError(f"{one} and {other} are not of one recipe: their {name} hold other arrays")


def by_seeds(parts: Parts) -> list[Parts]:
    """Return the parts as groups of the same seeds, from the first seed on."""

    def seeds(part: tuple[Path, Config]) -> tuple[int, int]:
        return part[1].first_seed, part[1].seeds

    return [dict(group) for _, group in itertools.groupby(sorted(parts.items(), key=seeds), seeds)]


def _rules(group: Parts) -> set[str]:
    rules: set[str] = set()
    for folder, config in group.items():
        if twice := rules & set(config.rules):
            raise UserError(f"{folder}: another run has {', '.join(sorted(twice))}, too")
        rules |= set(config.rules)
    return rules


def _check_groups(groups: list[Parts], rules: list[set[str]]) -> None:
    """Raise unless the groups have the same rules, follow each other, and are finished."""
    firsts = [next(iter(group.items())) for group in groups]
    for (folder, _), its_own in zip(firsts, rules, strict=True):
        if missing := set.union(*rules) - its_own:
            raise UserError(
                f"{folder}: no run with its seeds has {', '.join(sorted(missing))}, which others "
                "have: give that run, too"
            )
    if problem := run_results.not_in_a_row(firsts):
        raise UserError(f"{problem}: give each seed once, and the seeds between")
    for folder, config in (part for group in groups for part in group.items()):
        if run_folder.saved_summary(folder) is None:
            for error in run_folder.failures(folder, config.rules).values():
                raise UserError(
                    f"{folder} cannot be finished, as runs of further seeds must be: {error}"
                )
            raise UserError(f"{folder} is not finished: --resume it, runs of further seeds must be")
