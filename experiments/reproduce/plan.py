"""What ``experiments.reproduce`` will run, and about how long it should take."""

import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments import config as configs
from experiments.common import files, provenance
from experiments.common.cli import UserError
from experiments.common.names import PROTOCOLS
from experiments.config import Config
from experiments.reproduce import stored_times
from experiments.reproduce.published import CELLS
from experiments.reproduce.stored_times import Stored
from experiments.train import folder as run_folder
from experiments.train import summary

UNKNOWN_EPOCHS = 150
ASSUMPTIONS = (
    "An estimate: epochs as published where we know them, else "
    f"{UNKNOWN_EPOCHS}, for both rules alike; "
)
MEASURED = "seconds as measured on a few steps of the first rule (or on the epochs done)."
STORED = "seconds as stored in experiments/results, where they were measured on {device}{other}."
WIDTH = 80
EVENING = 4 * 3600.0
"""Seconds of the first evening that the plan spends for an example."""


class Work(NamedTuple):
    """One cell under one protocol."""

    config: Config
    folder: Path
    state: str  # "to do", "unfinished", "done", "failed", "left out"
    note: str = ""
    epochs_done: tuple[int, ...] = ()  # of each rule
    epochs_left: tuple[int, ...] = ()  # of each rule, expected
    epoch_seconds: float = 0.0  # of one rule, all seeds
    compiling_seconds: float = 0.0  # of one rule
    stored_on: str = ""  # the device that ``epoch_seconds`` is stored of; "": measured here

    @property
    def open(self) -> bool:
        """Whether there is something to run."""
        return self.state in ("to do", "unfinished")

    @property
    def seconds_left(self) -> float:
        """How long the rest should take."""
        rules = sum(left > 0 for left in self.epochs_left)
        return sum(self.epochs_left) * self.epoch_seconds + rules * self.compiling_seconds

    @property
    def seconds_at_least(self) -> float:
        """How long it takes to get on by an epoch of one rule."""
        return self.epoch_seconds + self.compiling_seconds


def inspect(config: Config, folder: Path, seeds_asked: bool) -> Work:
    """Say where the cell in ``folder`` stands; what its folder says it is comes before ``config``.

    Args:
      config: the cell as it would be started now.
      folder: its place.
      seeds_asked: whether the number of seeds was asked for, or is the config's own.
    """
    if not configs.holds_run(folder):
        return _estimated(config, folder, "to do", "")
    try:
        saved = configs.saved(folder)
    except UserError as error:
        return Work(config, folder, "left out", str(error))
    note = ""
    if saved.seeds != config.seeds:
        note = f"has {saved.seeds} seeds" + f", not {config.seeds}" * seeds_asked
        config = configs.replace(config, {"seeds": saved.seeds})
    if different := configs.difference(saved, config):
        return Work(
            saved, folder, "left out", f"was run with another {', '.join(different)}: move it away"
        )
    try:
        content = run_folder.saved_summary(folder)
        if content is not None:
            run_folder.check_summary(folder, saved, content)
            return Work(config, folder, "done", note)
        failures = run_folder.failures(folder, config.rules)
        work = _estimated(config, folder, "unfinished", note)
        return _without(work, failures) if failures else work
    except UserError as error:
        return Work(saved, folder, "left out", str(error))


def _without(work: Work, failures: dict[str, str]) -> Work:
    """Leave out the rules that cannot continue; if no other one is open, the cell failed."""
    rules = zip(work.config.rules, work.epochs_left, strict=True)
    left = tuple(0 if rule in failures else epochs for rule, epochs in rules)
    told = "; ".join(dict.fromkeys(failures.values()))
    if not any(left):
        note = f"{told} (move it away to try again)"
        return Work(work.config, work.folder, "failed", note)
    note = f"{work.note}; {told}" if work.note else told
    return work._replace(epochs_left=left, note=note)


def with_known_time(work: Work, stored: dict[tuple[str, int], Stored]) -> Work:
    """Add what an epoch takes, as far as it is known without computing; else leave it 0.

    From the cell's own epochs on this device, else from ``stored_times``.
    """
    if (seconds := _seconds_so_far(work.folder)) is not None:
        return work._replace(epoch_seconds=seconds)
    known = stored_times.epoch(work.config, stored)
    if known is None:
        return work
    return work._replace(epoch_seconds=known[0], stored_on=known[1])


def with_measured_time(work: Work, data_dir: str | None, times: dict[str, list[float]]) -> Work:
    """Look for the data, and measure what an epoch takes on a few steps unless that is known.

    Args:
      work: a cell that is open, ``with_known_time``.
      data_dir: where the data are.
      times: what was measured so far, seconds of a step and of compiling it by device, config and
        seeds; filled here.
    """
    import jax

    from experiments.reproduce import step_time

    config = work.config
    try:
        few, examples = step_time.excerpt(
            config.dataset, data_dir, step_time.STEPS * config.batch_size
        )
    except ValueError as error:
        return work._replace(state="left out", note=str(error))
    examples = config.trained(examples)
    if work.epoch_seconds:
        return work
    if (seconds := _seconds_so_far(work.folder)) is not None:
        return work._replace(epoch_seconds=seconds)
    key = f"{provenance.device()}: {config.name}, {config.seeds} seeds"
    if key not in times:
        try:
            times[key] = list(step_time.measure(config, few))
        except (ValueError, jax.errors.JaxRuntimeError) as error:  # the second: out of memory
            return work._replace(state="left out", note=str(error).splitlines()[0])
    step, compiling = times[key]
    seconds = config.epoch_of(examples)[0] * step
    return work._replace(epoch_seconds=seconds, compiling_seconds=compiling)


def text(works: list[Work], budget: float | None) -> str:
    """Write the plan as a table, with what it assumes, for 80 columns.

    Args:
      works: every cell.
      budget: in seconds, or None.
    """
    rows = [("cell", "protocol", "seeds", "state", "left, about", "")]
    for work in works:
        name, protocol = work.config.name, work.config.protocol
        note = _note(work)
        if work.state == "left out" and (rows[-1][0], rows[-1][5]) == (name, note):
            rows[-1] = (name, f"{rows[-1][1]}, {protocol}", *rows[-1][2:])  # one line is enough
            continue
        left = duration(work.seconds_left) if work.open else ""
        rows.append((name, protocol, str(work.config.seeds), work.state, left, note))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = []
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        lines.append("  ".join(cells).rstrip())
        lines += _filled(row[5], indent="    ") if row[5] else []
    total = sum(work.seconds_left for work in works if work.open)
    end = f"In all about {duration(total)} on {_device(works)}"
    if budget is not None:
        end += f"; the budget is {duration(budget)}"
    return "\n".join([*lines, *_filled(f"{end}."), *_filled(ASSUMPTIONS + _source(works))])


def without_data(names: list[str], folder: Path) -> str:
    """Say once which image sets are not here yet."""
    told = f"Not in {folder}: {', '.join(names)}. What TensorFlow Datasets has is downloaded when "
    return "\n".join(
        _filled(f"{told}first used; TFDS_DATA_DIR or --data-dir names another folder.")
    )


def whole_matrix(stored: dict[tuple[str, int], Stored]) -> str:
    """Say how long all cells take from nothing, and what a first evening could buy."""
    both = [
        configs.replace(configs.load(name), {"protocol": protocol})
        for name in CELLS
        for protocol in PROTOCOLS
    ]
    took = dict.fromkeys((config.name for config in both), 0.0)
    for config in both:
        took[config.name] += _seconds_of_all(config, stored) or 0.0
    longest = max(took, key=took.__getitem__)
    devices = " and ".join(sorted({one.device for one in stored.values()}))
    seeds = both[0].seeds
    chosen, spent = [], 0.0
    one_seed = [
        (_seconds_of_all(configs.replace(config, {"seeds": 1}), stored) or float("inf"), config)
        for config in both
        if config.protocol == "paper"
    ]
    for seconds, config in sorted(one_seed, key=lambda pair: pair[0]):
        if spent + seconds <= EVENING:
            chosen.append(config.name)
            spent += seconds
    lines = _filled(
        f"The whole matrix, {len(CELLS)} cells under both protocols, {seeds} seeds each, takes "
        f"about {duration(sum(took.values()))} from nothing, on {devices}, of which {longest} "
        f"alone {duration(took[longest])}. A first evening "
        f"({duration(EVENING)}) could buy one seed, about {duration(spent)}, of:"
    )
    command = (
        f"python -m experiments.reproduce --protocol paper --seeds 1 --budget {EVENING / 60:g}"
    )
    return "\n".join([*lines, f"  {command} \\", f"    --cells {','.join(chosen)}"])


def _seconds_of_all(config: Config, stored: dict[tuple[str, int], Stored]) -> float | None:
    known = stored_times.epoch(config, stored)
    return None if known is None else len(config.rules) * expected_epochs(config) * known[0]


def _note(work: Work) -> str:
    rules = zip(work.config.rules, work.epochs_done, work.epochs_left, strict=False)
    begun = work.state == "unfinished"
    notes = [f"{rule} {done} of {done + left} epochs" for rule, done, left in rules if begun]
    return "; ".join([*notes, *([work.note] if work.note else [])])


def _device(works: list[Work]) -> str:
    devices = {work.stored_on or provenance.device() for work in works if work.open}
    return " and ".join(sorted(devices or {provenance.device()}))


def _source(works: list[Work]) -> str:
    devices = sorted({work.stored_on for work in works if work.stored_on})
    if not devices:
        return MEASURED
    here = provenance.device()
    other = "" if devices == [here] else f", not on this {here} (--measure times it here)"
    return STORED.format(device=" and ".join(devices), other=other)


def _filled(paragraph: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        paragraph,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def duration(seconds: float) -> str:
    """Return ``seconds`` as a person says it: ``40 s``, ``12 min``, ``3.5 h``, ``4.0 days``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def expected_epochs(config: Config) -> int:
    """Return how many epochs a rule should take; see ``ASSUMPTIONS``."""
    if config.patience >= config.epochs:
        return config.epochs
    published = CELLS.get(config.name)
    known = published.epochs if published else None
    return min(round(known or UNKNOWN_EPOCHS), config.epochs)


def _estimated(config: Config, folder: Path, state: str, note: str) -> Work:
    lines = files.read_metrics(folder)
    done, left = [], []
    for rule in config.rules:
        curves = summary.accuracy_curves(lines, rule, folder / "metrics.jsonl")
        earliest = min(config.epochs, _earliest_stop(curves, config))
        done.append(len(curves))
        left.append(
            0 if len(curves) >= earliest else max(expected_epochs(config), earliest) - len(curves)
        )
    return Work(config, folder, state, note, tuple(done), tuple(left))


def _earliest_stop(curves: np.ndarray, config: Config) -> int:
    """The epoch before which the stopping rule cannot end a rule with these accuracies so far."""
    reference, last_gain = np.full(curves.shape[1:], -1.0), np.zeros(curves.shape[1:], int)
    for epoch, accuracy in enumerate(curves, 1):
        gained = accuracy - config.min_gain > reference  # never true of a stopped seed's NaN
        reference = np.where(gained, accuracy, reference)
        last_gain = np.where(gained, epoch, last_gain)
    return int(last_gain.max(initial=0)) + config.patience


def _seconds_so_far(folder: Path) -> float | None:
    """Median seconds of an epoch; None of fewer than three, as the first of a session compiles."""
    environments = files.environments(folder)
    lines = files.read_metrics(folder, "timings.jsonl", ("seconds",))
    seconds = [line["seconds"] for line in lines]
    last = environments[-1].get("device") if environments else None
    if len(seconds) < 3 or last != provenance.device():
        return None
    return float(np.median(seconds))
