"""The phrases and rows that every report on image runs shares."""

from pathlib import Path

import numpy as np

from experiments.common import display
from experiments.common.significance import mean_sd, paired_difference, ratio_interval
from experiments.reports import NOT_RUN, markdown, named
from experiments.reproduce import stored_times
from experiments.train import results as run_results
from experiments.train import summary
from experiments.train.results import CONTROL, LEVELS, RunResults

RULE = "q_agrel"


PAPERS_EPOCHS = (
    "The papers' epochs are probably those of the best accuracy: some lie shortly after halvings "
    "of the learning rate, and the authors' script marks that epoch. Epochs to a fraction of "
    "backprop's accuracy are the stricter measure."
)
LATE = f"of the mean accuracies of each run's last {run_results.LATE_EPOCHS} epochs"
CLASSES_KNOWN = "all classes known"
KNOWN = f"{CLASSES_KNOWN.capitalize()}: at least half of each class's monitored images are correct."
NO_INTERVAL = (
    "(no interval): one seed, no variation between the seeds, or the interval is unbounded."
)
DROPPED = "† Trained without the incomplete last batch of each epoch, on which the papers trained."

DIVERGED = (
    "‡ A seed diverged (its error was no longer a finite number) and stopped; its accuracy is that "
    "of its best epoch"
)


def marks(run: RunResults) -> str:
    """Return what a row's name ends with: \\* not finished, † no last batch, ‡ a seed diverged."""
    return ("" if run.finished else "\\*") + "†" * drops_images(run) + "‡" * bool(diverged(run))


def diverged(run: RunResults) -> str:
    """Return which seeds of which rules diverged, and when."""
    seeds = range(run.config.first_seed, run.config.first_seed + run.config.seeds)
    told = {rule: summary.told_diverged(seeds, epochs) for rule, epochs in run.diverged.items()}
    return ", ".join(f"{display.shown(rule)}, {text}" for rule, text in told.items() if text)


def drops_images(run: RunResults) -> bool:
    """Say whether each epoch left images out, which did not fill a batch."""
    config = run.config
    if config.last_batch != "drop":
        return False
    if config.dataset not in stored_times.IMAGES:
        return True
    examples = config.trained(stored_times.IMAGES[config.dataset].train)
    return config.epoch_of(examples)[1] < examples


def notes(*found: RunResults) -> list[str]:
    """Return the notes on † and ‡ where one of the runs needs them."""
    lost = [f"`{run.config.name}`, {told}" for run in found if (told := diverged(run))]
    lines = [DROPPED] if any(map(drops_images, found)) else []
    return [*lines, f"{DIVERGED}: {'; '.join(lost)}."] if lost else lines


def link(folder: str, page: str) -> str:
    """Return where ``results/folder`` lies as seen from the page in ``results/page``."""
    return "" if folder == page else f"../{folder}/"


def difference(run: RunResults) -> tuple[str, str]:
    """Return Q-AGREL − backprop in points of accuracy with its 95 % interval, and p.

    Of a run that is not finished the difference alone: the rules may not have had equal times.
    """
    if not (run.ran(RULE) and run.ran(CONTROL)):
        return "–", "–"
    ours, control = 100 * run.accuracy(RULE), 100 * run.accuracy(CONTROL)
    if not run.finished:
        return f"{_signed((ours - control).mean())} so far", "–"
    return points(ours, control)


def points(a: np.ndarray, b: np.ndarray) -> tuple[str, str]:
    """Return a − b, per cent by seed, with its 95 % interval where there is one, and p."""
    d = paired_difference(a, b)
    if np.isnan(d.low):
        return f"{_signed(d.mean)} (no interval)", "–"
    return f"{_signed(d.mean)} [{_signed(d.low)}, {_signed(d.high)}]", markdown.p_value(d.p)


def epoch_rows(run: RunResults) -> list[list[str]]:
    """Return a row a level: what is reached, its accuracy, epochs of both rules, slowdown.

    Of a run that is not finished without intervals, and without a slowdown to the best epoch,
    which says no more than how long each rule has run.
    """
    rows = []
    if run.ran(CONTROL):
        found = {rule: run.epochs_to_all_classes(rule) for rule in (RULE, CONTROL) if run.ran(rule)}
        known = {rule: epochs for rule, epochs in found.items() if epochs is not None}
        if len(known) == len(found):
            rows.append([CLASSES_KNOWN, "–", *_epochs(known, run.finished)])
        for level in LEVELS:
            target = run.target(level)
            epochs = {
                rule: run.epochs_to(rule, target) for rule in (RULE, CONTROL) if run.ran(rule)
            }
            cells = _epochs(epochs, run.finished)
            rows.append([f"{100 * level:g} %", f"{100 * target:.2f}", *cells])
    best = {rule: run.best_epoch(rule) for rule in (RULE, CONTROL) if run.ran(rule)}
    *cells, factor = _epochs(best, run.finished)
    rows.append(["the best epoch", "–", *cells, factor if run.finished else "–"])
    return rows


def comparison(run: RunResults) -> list[str]:
    """Return the difference of the two rules as a sentence, and a table of their epochs."""
    points, p = difference(run)
    test = "" if p == "–" else f" (95 % interval; paired t test, p = {p})"
    beside = f"; {LATE}, of which none was chosen: {late(run)[2]}" if chosen_by_test(run) else ""
    so_far = "" if run.finished else " so far"
    points = points.removesuffix(so_far)
    rows = epoch_rows(run)
    known = f" {KNOWN}" if rows[0][0] == CLASSES_KNOWN else ""
    return [
        f"Q-AGREL − backprop, over the same seeds: {points} points{so_far}{test}{beside}.",
        markdown.table(
            (
                "criterion, of backprop's best",
                "accuracy, %",
                "Q-AGREL, epochs",
                "backprop, epochs",
                "slowdown [95 %]",
            ),
            rows,
        ),
        f"{PAPERS_EPOCHS}{known}",
    ]


def chosen_by_test(run: RunResults) -> bool:
    """Say whether a finished run of both rules reports the best epoch on the test images."""
    both = run.ran(RULE) and run.ran(CONTROL)
    return both and run.finished and run.config.protocol == "paper"


def late(run: RunResults) -> tuple[str, str, str, str]:
    """Return both rules' accuracy over their last epochs, the difference with its interval, and p.

    What the best epoch adds by being chosen on the same images is not in it.
    """
    ours, control = (100 * run.late(rule) for rule in (RULE, CONTROL))
    return markdown.spread(ours), markdown.spread(control), *points(ours, control)


def counted_headings(published: RunResults) -> tuple[str, ...]:
    """Return the headings of ``counted``."""
    reached = [f"epochs to {100 * published.target(level):.2f} %" for level in LEVELS]
    return (
        "test accuracy %, mean (sd) [range]",
        *reached,
        "the best epoch",
        f"slowdown, to {100 * published.target(LEVELS[1]):.2f} %",
    )


def counted(run: RunResults, rule: str, published: RunResults) -> list[str]:
    """Return accuracy and epochs of one rule, counted to fractions of backprop's in ``published``.

    The slowdown is relative to that backprop, too, at 98 %.
    """
    epochs = [run.epochs_to(rule, published.target(level)) for level in LEVELS]
    control = published.epochs_to(CONTROL, published.target(LEVELS[1]))
    if run is published and rule == CONTROL:
        slowdown = "1"
    else:
        there = not np.isnan([*epochs[1], *control]).any()
        slowdown = ratio(*of_common_seeds(run, epochs[1], published, control)) if there else "–"
    return [
        markdown.spread(100 * run.accuracy(rule)),
        *(reached(e) for e in epochs),
        mean_sd(run.best_epoch(rule), 1),
        slowdown,
    ]


def of_common_seeds(
    run: RunResults, values: np.ndarray, other: RunResults, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return values by seed of the seeds that two runs share, to be paired; of none, the means."""
    ours, theirs = (
        dict(zip(range(r.config.first_seed, r.config.first_seed + len(v)), v, strict=True))
        for r, v in ((run, values), (other, others))
    )
    common = [seed for seed in ours if seed in theirs]
    if not common:
        return values.mean(keepdims=True), others.mean(keepdims=True)
    return np.array([ours[s] for s in common]), np.array([theirs[s] for s in common])


def unfinished(named: dict[str, RunResults]) -> list[str]:
    """Return the note on \\* where one of the runs needs it."""
    left = [f"{name}: {so_far(run)}" for name, run in named.items() if not run.finished]
    start = "\\* Not finished: the best so far on the images that pick the epoch; "
    return [f"{start}{'; '.join(left)}."] if left else []


def so_far(run: RunResults) -> str:
    """Return how far a run is, and the difference of its rules after equal numbers of epochs."""
    if not (run.ran(RULE) and run.ran(CONTROL)):
        return progress(run)
    both = run.curves[RULE], run.curves[CONTROL]
    epochs, most = sorted(map(len, both))
    if epochs == most:
        return progress(run)
    ours, control = (np.nanmax(curve[:epochs], axis=0) for curve in both)
    return (
        f"{progress(run)} (after {epochs} epochs of both the difference is "
        f"{_signed(100 * (ours - control).mean())} points)"
    )


def progress(run: RunResults) -> str:
    """Return how far a run is: ``Q-AGREL 12 epochs, backprop 0``."""
    return ", ".join(
        f"{display.shown(rule)} {len(curve)} epochs" for rule, curve in run.curves.items()
    )


def seeds(run: RunResults) -> str:
    """Return the seeds, as in ``0–4``."""
    first, last = run.config.first_seed, run.config.first_seed + run.config.seeds - 1
    return str(first) if first == last else f"{first}–{last}"


def commits(run: RunResults) -> str:
    """Return the commits of all sessions, short, first to last."""
    names = [short(session["commit"]) for session in run.sessions]
    return markdown.quoted(list(dict.fromkeys(names))) or "not recorded"


def commands(run: RunResults) -> list[str]:
    """Return the commands of all sessions, quoted, first to last."""
    quoted = dict.fromkeys(f"`{session['command']}`" for session in run.sessions)
    return list(quoted) or ["not recorded"]


def devices(run: RunResults) -> str:
    """Return the devices of all sessions."""
    return ", then ".join(dict.fromkeys(s["device"] for s in run.sessions)) or "not recorded"


def provenance(run: RunResults) -> str:
    """Return the line that says how to run it again."""
    plural = "s" if run.config.seeds > 1 else ""
    return (
        f"Command: {', '.join(commands(run))}; seed{plural} {seeds(run)}; "
        f"{devices(run)}; commit "
        f"{commits(run)}; folder `{named(run.folder)}/`."
    )


def _epochs(epochs: dict[str, np.ndarray], finished: bool) -> list[str]:
    cells = [reached(epochs[rule]) if rule in epochs else "–" for rule in (RULE, CONTROL)]
    both = [epochs.get(rule, np.array([np.nan])) for rule in (RULE, CONTROL)]
    if any(np.isnan(values).any() for values in both):
        never = finished and np.isnan(both[0]).all() and not np.isnan(both[1]).all()
        return [*cells, "not reached" if never else "–"]
    if not finished:
        return [*cells, f"{ratio_interval(*both)[0]:.2f} so far"]
    return [*cells, ratio(*both)]


def ratio(a: np.ndarray, b: np.ndarray) -> str:
    """Return mean(a) / mean(b) with its 95 % interval where there is one."""
    value, low, high = ratio_interval(a, b)
    interval = "(no interval)" if np.isnan(low) else f"[{low:.2f}, {high:.2f}]"
    return f"{value:.2f} {interval}"


def _signed(points: float) -> str:
    return f"{points:+.2f}".replace("-", "−")


def reached(epochs: np.ndarray) -> str:
    """Return mean (sd) of the epochs at which seeds got there, or how many did."""
    there = epochs[~np.isnan(epochs)]
    if len(there) == len(epochs):
        return mean_sd(epochs, 1)
    return f"{len(there)} of {len(epochs)} seeds" if len(there) else "not reached"


def short(commit: str | None) -> str:
    """Return the first seven digits of a commit, and whether the code differed from it."""
    if commit is None:
        return "unknown"
    return commit[:7] + ("-dirty" if commit.endswith("-dirty") else "")


def tables(results: Path, folder: str, command: str, picture: str = "learning_curves.png") -> str:
    """Return accuracy, difference, epochs and curves of the run in ``results/folder``.

    Args:
      results: ``experiments/results``.
      folder: below it.
      command: what to type, less ``--out``, if it has not been run.
      picture: of the curves, as seen from the page.
    """
    from experiments import plots

    run = run_results.read(results / folder)
    if run is None:
        return f"{NOT_RUN} `{command} --out {named(results / folder)}`"
    plots.learning_curves(run.folder, run.folders)
    accuracies = [
        [f"{display.shown(rule)}{marks(run)}", markdown.spread(100 * run.accuracy(rule))]
        for rule in (RULE, CONTROL)
        if run.ran(rule)
    ]
    tail = unfinished({run.config.name: run})
    return "\n\n".join(
        [
            provenance(run),
            markdown.table(("rule", "test accuracy %, mean (sd) [range]"), accuracies),
            *comparison(run),
            *tail,
            *notes(run),
            f"![Learning curves]({picture})",
        ]
    )
