"""What ``experiments.reproduce`` will run, and about how long it should take."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments import config as configs
from experiments.common import provenance
from experiments.common.cli import UserError
from experiments.config import Config
from experiments.reproduce.published import CELLS
from experiments.train import folder as run_folder
from experiments.train import summary

UNKNOWN_EPOCHS = 150
ASSUMPTIONS = (
    "An estimate: epochs as published where we know them, else "
    f"{UNKNOWN_EPOCHS}, for both rules alike; seconds as measured on a few steps of the first rule "
    "(or on the epochs done), without evaluation."
)


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


def look(config: Config, folder: Path, seeds_asked: bool) -> Work:
    """Say where the cell in ``folder`` stands; what its folder says it is comes before ``config``.

    Args:
      config: the cell as it would be started now.
      folder: its place.
      seeds_asked: whether the number of seeds was asked for, or is the config's own.
    """
    if not run_folder.holds_run(folder):
        return _estimated(config, folder, "to do", "")
    try:
        saved = run_folder.saved_config(folder)
    except UserError as error:
        return Work(config, folder, "left out", str(error))
    note = ""
    if saved.seeds != config.seeds:
        note = f"has {saved.seeds} seeds" + f", not {config.seeds}" * seeds_asked
        config = configs.replace(config, {"seeds": saved.seeds})
    there, here = configs.to_json(saved), configs.to_json(config)
    if different := [key for key in here if there[key] != here[key]]:
        return Work(saved, folder, "left out",
                    f"was run with another {', '.join(different)}: move it away")  # fmt: skip
    if run_folder.saved_summary(folder) is not None:
        return Work(config, folder, "done", note)
    if failure := run_folder.read_json(folder / "failed.json"):
        return Work(config, folder, "failed", f"{failure['error']} (move it away to try again)")
    return _estimated(config, folder, "unfinished", note)


def timed(work: Work, data_dir: str | None, times: dict[str, list[float]]) -> Work:
    """Add what an epoch takes: from the cell's own epochs on this device, else from a few steps.

    Args:
      work: a cell that is open.
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
    if config.protocol == "clean":
        examples -= max(1, round(config.validation_fraction * examples))
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
    """Write the plan as a table, with what it assumes.

    Args:
      works: every cell.
      budget: in seconds, or None.
    """
    rows = [("cell", "protocol", "seeds", "state", "left, about", "")]
    for work in works:
        name, protocol = work.config.name, work.config.protocol
        if work.state == "left out" and (rows[-1][0], rows[-1][5]) == (name, work.note):
            rows[-1] = (name, f"{rows[-1][1]}, {protocol}", *rows[-1][2:])  # one line is enough
            continue
        rules = zip(work.config.rules, work.epochs_done, work.epochs_left, strict=False)
        notes = [f"{rule} {done} of {done + left} epochs"
                 for rule, done, left in rules if work.open]  # fmt: skip
        rows.append(
            (
                name,
                protocol,
                str(work.config.seeds),
                work.state,
                duration(work.seconds_left) if work.open else "",
                "; ".join([*notes, *([work.note] if work.note else [])]),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]])
        for row in rows
    ]
    total = sum(work.seconds_left for work in works if work.open)
    end = f"In all about {duration(total)} on {provenance.device()}"
    if budget is not None:
        end += f"; the budget is {duration(budget)}"
    return "\n".join([*(line.rstrip() for line in lines), f"{end}.", ASSUMPTIONS])


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
    lines = run_folder.read_lines(folder / "metrics.jsonl")
    done, left = [], []
    for rule in config.rules:
        curves = summary.accuracy_curves(lines, rule)
        earliest = min(config.epochs, _earliest_stop(curves, config))
        done.append(len(curves))
        left.append(
            0 if len(curves) >= earliest
            else max(expected_epochs(config), earliest) - len(curves)
        )  # fmt: skip
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
    """Median seconds of an epoch; None of fewer than three, as the first of a sitting compiles."""
    environments = run_folder.read_lines(folder / "environments.jsonl")
    seconds = [line["seconds"] for line in run_folder.read_lines(folder / "timings.jsonl")]
    if len(seconds) < 3 or not environments or environments[-1]["device"] != provenance.device():
        return None
    return float(np.median(seconds))
