"""AGREL against error-backpropagation: trials to criterion on four direct-reward tasks.

    python -m experiments.agrel                       # all tasks, within two minutes on 2 cores
    python -m experiments.agrel xor --networks 200 --learning-rate 0.5
    python -m experiments.agrel --feedback kolen_pollack --out DIR

Both rules train the same three-layer networks, with the same initial weights and learning rate, on
the same patterns in the same order: one pattern a trial, weights change after every trial. AGREL is
told only whether its choice was correct, backpropagation the correct choice. A network has
reached the criterion when the expected reward of its softmax policy over all patterns (digits: over
the held-out test images) is high enough; this is tested every few trials, without learning.

The tasks are of the kind of Roelfsema & van Ooyen (2005); sizes, learning rates and criteria are
ours, so no number here is a replication of theirs. Medians and quartiles are numbers of trials that
a network needed: of an even number of networks the upper of the two in the middle. DIR gets
summary.json and trials_to_criterion.png; if it is interrupted, with the tasks that were finished.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common import cli, fields, files, folders
from experiments.common.cli import UserError
from experiments.common.names import FEEDBACK_ALIASES

SUMMARY = "summary.json"
RULES = ("agrel", "backprop")
FEEDBACKS = ("tied", "kolen_pollack")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How one task is run; the same for both rules."""

    hidden: int
    spread: float  # initial weights are uniform in [-spread, spread]
    learning_rate: float
    criterion: float  # expected reward
    max_trials: int
    trials_between_tests: int


@dataclasses.dataclass(frozen=True)
class Options:
    """What is alike for all tasks, or given in place of a task's own."""

    networks: int = fields.number(1, 100_000, "networks trained with each rule", default=50)
    max_trials: int | None = fields.number(
        1,
        100_000_000,
        "trials after which a network gives up",
        default=None,
        default_is="the task's own, 10,000 to 30,000",
    )
    learning_rate: float | None = fields.number(
        0,
        100,
        "of both rules",
        open_low=True,
        default=None,
        default_is="the task's own, 0.02 to 0.2",
    )
    seed: int = fields.number(0, 2**32 - 1, "all randomness follows from it", default=0)
    feedback: str = fields.choice(
        FEEDBACKS, "feedback pathway of AGREL", aliases=FEEDBACK_ALIASES, default="tied"
    )

    def __post_init__(self) -> None:
        fields.check(self)


TASKS = {
    "xor": Settings(8, 2.0, 0.2, 0.9, 10_000, 20),
    "count_ones": Settings(8, 2.0, 0.1, 0.9, 20_000, 50),
    "orientation": Settings(8, 1.0, 0.1, 0.9, 10_000, 20),
    "digits": Settings(30, 0.3, 0.02, 0.85, 30_000, 200),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run every task with both rules, write the summary and the picture."""
    arguments = _parser().parse_args(argv)
    folder = arguments.out or folders.default("agrel")
    with cli.keeping(folder / SUMMARY), folders.claimed(folder):
        _run_all(arguments, folder)


def _run_all(arguments: Any, folder: Path) -> None:
    from experiments.common import provenance

    options = Options(**fields.given(Options, arguments))
    own: dict[str, Any] = {"max_trials": options.max_trials, "learning_rate": options.learning_rate}
    changes = {key: value for key, value in own.items() if value is not None}
    tasks = {
        name: dataclasses.replace(TASKS[name], **changes)
        for name in ([arguments.task] if arguments.task else TASKS)
    }
    for name, settings in tasks.items():
        every = settings.trials_between_tests
        if settings.max_trials > every and settings.max_trials % every:
            raise UserError(
                f"--max-trials must be a multiple of {every} with {name}, the trials between two "
                f"tests, got {settings.max_trials}"
            )
    environment = provenance.environment()  # of the code that runs, not of a later commit
    results: list[dict[str, Any]] = []
    config = {"task": arguments.task, **dataclasses.asdict(options)}
    for number, (name, settings) in enumerate(tasks.items()):
        results += [run(name, settings, rule, options) for rule in RULES]
        left = list(tasks)[number + 1 :]
        _write({"config": config, "not_run": left, "results": results}, environment, folder)
    _print_table(results, folder)


def _write(content: dict[str, Any], environment: dict[str, Any], folder: Path) -> None:
    from experiments.agrel import plots

    results = content["results"]
    pairs = zip(results[::2], results[1::2], strict=True)
    content["comparisons"] = [compare(*pair) for pair in pairs]
    files.write_json(folder / SUMMARY, content | environment)
    plots.trials_to_criterion(folder / "trials_to_criterion.png", results)


def run(name: str, settings: Settings, rule_name: str, options: Options) -> dict[str, Any]:
    """Train a population on one task with one rule; return its entry of the summary."""
    import jax
    import numpy as np

    from experiments.common.progress import Reporter
    from qagrel_jax.random_keys import root_key

    task, test = _tasks(name)
    every = min(settings.trials_between_tests, settings.max_trials)
    settings = dataclasses.replace(settings, trials_between_tests=every)
    # Error-backpropagation as usually meant runs its errors down the forward weights.
    feedback = "tied" if rule_name == "backprop" else options.feedback
    init, advance = _population(task, test, settings, rule_name, feedback)
    keys = jax.random.split(root_key(options.seed), options.networks)
    params = init(keys)
    reached = np.full(options.networks, np.inf)
    best, trials, start = 0.0, 0, time.perf_counter()
    with Reporter(f"{name} {rule_name}", settings.max_trials) as reporter:
        reporter.update(0, "compiling", important=True)
        while trials + every <= settings.max_trials and np.isinf(reached).any():
            params, reward = advance(keys, params, trials)
            reward = np.asarray(reward)
            if not trials:  # the first call compiles
                start = time.perf_counter()
            trials += every
            reached[(reward >= settings.criterion) & np.isinf(reached)] = trials
            best = float(np.nan_to_num(reward).mean())
            there = f"{np.isfinite(reached).sum()} of {len(reached)}"
            state = f"{there} at criterion, mean reward {best:.3f}"
            reporter.update(trials, state)
        reporter.finish(f"{trials:,} trials", state)
    seconds = time.perf_counter() - start
    return {
        "task": name,
        "rule": rule_name,
        "feedback": feedback,
        **dataclasses.asdict(settings),
        **_statistics(reached),
        "last_mean_reward": best,
        "diverged": int((~np.isfinite(reward)).sum()),
        "trials": [None if np.isinf(t) else int(t) for t in reached],
        "seconds_after_compiling": round(seconds, 2),
    }


def _population(
    task: Any, test: Any, settings: Settings, rule_name: str, feedback: str
) -> tuple[Any, Any]:
    """Return compiled ``init(keys)`` and ``advance(keys, learners, trial)``, over all networks."""
    import optax

    from qagrel_jax import rules
    from qagrel_jax.networks import ThreeLayer
    from qagrel_jax.population import make_online_trainer

    return make_online_trainer(
        {"agrel": rules.agrel, "backprop": rules.backprop}[rule_name](),
        ThreeLayer(task.num_actions, settings.hidden, feedback, settings.spread),
        optax.sgd(settings.learning_rate),
        task,
        trials=settings.trials_between_tests,
        test=test,
    )


def _tasks(name: str) -> tuple[Any, Any]:
    """Return ``(training task, test task)``; but for the digits both are the same."""
    from qagrel_jax import data
    from qagrel_jax.tasks import vectors

    if name != "digits":
        task = getattr(vectors, name)()
        return task, task
    try:
        digits = data.load("digits")
    except ValueError as error:
        raise UserError(str(error)) from None
    train = vectors.images(digits.train_images, digits.train_labels, digits.num_classes)
    return train, vectors.images(digits.test_images, digits.test_labels, digits.num_classes)


def _statistics(reached: Any) -> dict[str, Any]:
    """Sum trials to criterion up; a network that never got there counts as later than all."""
    import numpy as np

    converged = np.isfinite(reached)
    low, median, high = np.quantile(reached, (0.25, 0.5, 0.75), method="higher")
    return {
        "networks": len(reached),
        "converged_fraction": float(converged.mean()),
        "first_quartile_trials": _finite(low),
        "median_trials": _finite(median),
        "third_quartile_trials": _finite(high),
        "mean_trials_of_converged": _finite(reached[converged].mean() if converged.any() else None),
    }


def compare(agrel: dict[str, Any], backprop: dict[str, Any]) -> dict[str, Any]:
    """Compare trials to criterion of the two rules, network by network, "never" the last."""
    from experiments.common.significance import signed_rank_test

    trials = [[t or float("inf") for t in row["trials"]] for row in (agrel, backprop)]
    medians = agrel["median_trials"], backprop["median_trials"]
    return {
        "task": agrel["task"],
        "median_ratio_agrel_to_backprop": medians[0] / medians[1] if all(medians) else None,
        "wilcoxon_p": signed_rank_test(*trials),
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or value == float("inf") else float(value)


def _print_table(results: list[dict[str, Any]], folder: Path) -> None:
    print(f"{'task':12} {'rule':9} {'converged':>14} {'median':>7} {'quartiles':>15}  trials")
    for row in results:
        low, middle, high = (
            "-" if row[k] is None else f"{row[k]:.0f}"
            for k in ("first_quartile_trials", "median_trials", "third_quartile_trials")
        )
        share = f"{sum(t is not None for t in row['trials'])} of {row['networks']}"
        print(f"{row['task']:12} {row['rule']:9} {share:>14} {middle:>7} {low + ' - ' + high:>15}")
    print(f"written to {folder}")


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m experiments.agrel", description=__doc__)
    parser.add_argument(
        "task",
        nargs="?",
        type=cli.one_of("task", tuple(TASKS)),
        metavar="TASK",
        help=f"one of {', '.join(TASKS)}; default: all",
    )
    fields.add_options(parser, Options, Options())
    folders.add_options(parser, "agrel")
    return parser


if __name__ == "__main__":
    cli.run(main)
