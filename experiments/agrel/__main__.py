"""AGREL against error-backpropagation: trials to criterion on four direct-reward tasks.

    python -m experiments.agrel                       # all tasks, within two minutes on 2 cores
    python -m experiments.agrel xor --networks 200 --learning-rate 0.5
    python -m experiments.agrel --feedback kolen_pollack --out DIR

Both rules train the same three-layer networks, with the same initial weights and learning rate, on
the same patterns in the same order: one pattern a trial, weights change after every trial. AGREL is
told only whether its choice was right, backpropagation what would have been right. A network has
reached the criterion when the expected reward of its softmax policy over all patterns (digits: over
the held-out test images) is high enough; this is looked at every few trials, without learning.

The tasks are of the kind of Roelfsema & van Ooyen (2005); sizes, learning rates and criteria are
ours, so no number here is a replication of theirs. DIR gets summary.json and
trials_to_criterion.png.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import config as configs
from experiments.common import cli, files, folders
from experiments.common.cli import UserError

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


TASKS = {
    "xor": Settings(8, 2.0, 0.2, 0.9, 10_000, 20),
    "count_ones": Settings(8, 2.0, 0.1, 0.9, 20_000, 50),
    "orientation": Settings(8, 1.0, 0.1, 0.9, 10_000, 20),
    "digits": Settings(30, 0.3, 0.02, 0.85, 30_000, 200),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run every task with both rules, write the summary and the picture."""
    arguments = _parser().parse_args(argv)
    folder = arguments.out or Path("runs") / f"agrel-{time.strftime('%Y%m%d-%H%M%S')}"
    folders.make_new(folder)

    from experiments.agrel import plots as agrel_plots
    from experiments.common import provenance

    results = []
    for name in [arguments.task] if arguments.task else TASKS:
        given = {key: getattr(arguments, key) for key in ("max_trials", "learning_rate")}
        settings = dataclasses.replace(TASKS[name], **{k: v for k, v in given.items() if v})
        results += [run(name, settings, rule, arguments) for rule in RULES]
    config = {key: value for key, value in vars(arguments).items() if key != "out"}
    comparisons = [compare(*pair) for pair in zip(results[::2], results[1::2], strict=True)]
    content = {"config": config, "results": results, "comparisons": comparisons}
    content |= provenance.environment()
    files.write_json(folder / "summary.json", content)
    agrel_plots.trials_to_criterion(folder / "trials_to_criterion.png", results)
    _print_table(results, folder)


def run(name: str, settings: Settings, rule_name: str, arguments: Any) -> dict[str, Any]:
    """Train a population on one task with one rule; return its entry of the summary."""
    import jax
    import numpy as np

    from experiments.common.progress import Reporter
    from qagrel_jax.random_keys import root_key

    task, test = _tasks(name)
    every = min(settings.trials_between_tests, settings.max_trials)
    settings = dataclasses.replace(settings, trials_between_tests=every)
    # Error-backpropagation as usually meant runs its errors down the forward weights.
    feedback = "tied" if rule_name == "backprop" else arguments.feedback
    init, advance = _population(task, test, settings, rule_name, feedback)
    keys = jax.random.split(root_key(arguments.seed), arguments.networks)
    params = init(keys)
    reached = np.full(arguments.networks, np.inf)
    best, trials, start = 0.0, 0, None
    with Reporter(f"{name} {rule_name}", settings.max_trials) as reporter:
        reporter.update(0, "compiling", important=True)
        while trials + every <= settings.max_trials and np.isinf(reached).any():
            params, reward = advance(keys, params, trials)
            trials += every
            reward = np.asarray(reward)
            start = start or time.perf_counter()  # the first call compiles
            reached[(reward >= settings.criterion) & np.isinf(reached)] = trials
            best = float(np.nan_to_num(reward).mean())
            state = f"{np.isfinite(reached).mean():.0%} at criterion, mean reward {best:.3f}"
            reporter.update(trials, state)
        reporter.update(trials, state, important=True)
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


def _population(task: Any, test: Any, settings: Settings, rule_name: str, feedback: str) -> tuple:
    """Return compiled ``init(keys)`` and ``advance(keys, params, trial)``, over all networks."""
    import jax
    import optax

    from qagrel_jax.networks import ThreeLayer
    from qagrel_jax.rules._agrel import agrel
    from qagrel_jax.rules._backprop import backprop
    from qagrel_jax.tasks import vectors

    rule = {"agrel": agrel, "backprop": backprop}[rule_name]()
    network = ThreeLayer(task.num_actions, settings.hidden, feedback, settings.spread)
    optimizer = optax.sgd(settings.learning_rate)

    def trial(key: Any, params: Any, number: Any) -> Any:
        # By number, so that a network's trials depend on nothing but its own key.
        draw, choose = jax.random.split(jax.random.fold_in(key, number))
        pattern, seen = vectors.reset(draw, task)
        decision = rule.act(choose, network.apply, params, seen[None])
        if rule.outcome == "label":
            outcome = task.labels[pattern]
        else:
            outcome = vectors.step(task, pattern, decision.action[0])
        grads, _ = rule.update(decision, outcome[None])
        updates, _ = optimizer.update(grads, optimizer.init(params))
        return optax.apply_updates(params, updates)

    def init(keys: Any) -> Any:
        return jax.vmap(lambda k: network.init(jax.random.fold_in(k, 2**31), task.inputs[:1]))(keys)

    def advance(keys: Any, params: Any, first: Any) -> tuple[Any, Any]:
        def body(i: Any, params: Any) -> Any:
            return jax.vmap(trial, (0, 0, None))(keys, params, first + i)

        params = jax.lax.fori_loop(0, settings.trials_between_tests, body, params)
        logits = jax.vmap(network.apply, (0, None))(params, test.inputs)
        return params, jax.vmap(vectors.expected_reward, (None, 0))(test, logits)

    return jax.jit(init), jax.jit(advance)


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
    print(f"{'task':12} {'rule':9} {'converged':>9} {'median':>7} {'quartiles':>15}  trials")
    for row in results:
        low, middle, high = (
            "-" if row[k] is None else f"{row[k]:.0f}"
            for k in ("first_quartile_trials", "median_trials", "third_quartile_trials")
        )
        share = f"{row['converged_fraction']:.0%}"
        print(f"{row['task']:12} {row['rule']:9} {share:>9} {middle:>7} {low + ' - ' + high:>15}")
    print(f"written to {folder}")


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m experiments.agrel", description=__doc__)
    add = parser.add_argument
    add(
        "task",
        nargs="?",
        type=cli.one_of("task", tuple(TASKS)),
        metavar="TASK",
        help=f"one of {', '.join(TASKS)}; default: all",
    )
    add(
        "--networks",
        type=cli.number(int, 1, 100_000),
        default=50,
        metavar="N",
        help="networks trained with each rule (default: 50)",
    )
    add(
        "--max-trials",
        type=cli.number(int, 1, 100_000_000),
        metavar="T",
        help="give up after T trials (default: the task's own, 10,000 to 30,000)",
    )
    add(
        "--learning-rate",
        type=cli.number(float, 0, 100, open_low=True),
        metavar="B",
        help="of both rules (default: the task's own, 0.02 to 0.2)",
    )
    add(
        "--seed",
        type=cli.number(int, 0, 2**32 - 1),
        default=0,
        metavar="S",
        help="all randomness follows from it (default: 0)",
    )
    add(
        "--feedback",
        type=cli.one_of("feedback", FEEDBACKS, configs.FEEDBACK_ALIASES),
        default="tied",
        metavar="KIND",
        help="attention feedback: tied (default) or kolen_pollack, weights of its own",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="an empty or new folder (default: runs/agrel-DATE-TIME)",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
