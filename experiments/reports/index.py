"""The index of experiments: a row each, with its question, command, headline and page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from experiments import new_letters
from experiments.common import display, files
from experiments.common.significance import mean_sd
from experiments.reports import (
    curve_tracing,
    hundred_classes,
    markdown,
    memory,
    memory_cells,
    memory_successors,
    precision,
    runs,
    small_weights,
)
from experiments.train import results as run_results
from experiments.train.results import CONTROL
from experiments.working_memory import plots

NONE = "not run"


class Experiment(NamedTuple):
    """One row; ``headline`` reads the results folder and returns None for what was not run."""

    question: str
    command: str
    headline: Callable[[Path], str | None]
    page: str


def section(results: Path) -> str:
    """Return the table of all experiments."""
    rows = [
        [
            e.question,
            f"`python -m experiments.{e.command}`",
            e.headline(results) or NONE,
            f"[page]({e.page})",
        ]
        for e in EXPERIMENTS
    ]
    return markdown.table(("question", "command", "headline", "details"), rows)


def _accuracies(folder: str) -> Callable[[Path], str | None]:
    """Return test accuracy of both rules in a run folder."""

    def headline(results: Path) -> str | None:
        run = run_results.read(results / folder)
        if run is None:
            return None
        if not (run.ran(runs.RULE) and run.ran(CONTROL)):
            return f"of {', '.join(map(display.shown, filter(run.ran, run.curves)))} alone"
        ours, control = (mean_sd(100 * run.accuracy(rule)) for rule in (runs.RULE, CONTROL))
        name = f"`{run.config.name}`{runs.marks(run)}: " if "cells" in folder else ""
        return f"{name}Q-AGREL {ours} %, backprop {control} %{runs.marks(run) * (not name)}"

    return headline


def _read(path: Path) -> Any:
    return files.read_json(path)


def _precision(results: Path) -> str | None:
    found = {p: run_results.read(results / f) for p, f in precision.FOLDERS.items()}
    shown = [
        f"{p} {mean_sd(100 * run.accuracy(runs.RULE))} %{runs.marks(run)}"
        for p, run in precision.comparable(found)[0].items()
    ]
    return "Q-AGREL " + ", ".join(shown) if shown else None


def _controls(results: Path) -> str | None:
    content = _read(results / "controls" / "reward" / "summary.json")
    if content is None:
        return None
    found = {r["label"]: r["test_accuracy"] for r in content["results"]}
    labels = ("right choices rewarded", "rewards shuffled")
    if not all(found.get(label) for label in labels):
        return None
    correct, shuffled = (mean_sd(100 * _array(found[label])) for label in labels)
    return f"test accuracy {correct} %; with shuffled rewards {shuffled} %"


def _array(values: list[float]) -> Any:
    import numpy as np

    return np.array(values)


def _feedback(results: Path) -> str | None:
    content = _read(results / "feedback" / "summary.json")
    cells = {
        (r["config_name"], r["kind"]): r
        for r in (content or {"results": []})["results"]
        if r["rule"] == runs.RULE and r["finished"]
    }
    both = [name for name, kind in cells if kind == "tied" and (name, "kolen_pollack") in cells]
    if not both:
        return None

    def shown(name: str, kind: str) -> str:
        return mean_sd(100 * _array(cells[name, kind]["test_accuracy"]))

    pairs = (f"`{n}` {shown(n, 'kolen_pollack')} and {shown(n, 'tied')}" for n in both)
    text = f"Q-AGREL with Kolen–Pollack and with tied feedback, %: {', '.join(pairs)}"
    return f"{text} (the page has a command for each)"


def _small_weights(results: Path) -> str | None:
    found = small_weights.slowdowns(results)
    if len(found) < 2:
        return None
    return "slowdown to 98 % of backprop with tied feedback: " + ", ".join(
        f"{name} {slowdown}" for name, slowdown in found.items()
    )


def _update_statistics(results: Path) -> str | None:
    content = _read(results / "update_statistics" / "summary.json")
    if content is None:
        return None
    plan = content["plan"]
    last = (
        max(plan["stages"]),
        plan["batch_sizes"][0],
        max(r["classes"] for r in content["results"]),
    )
    wanted = (*last, runs.RULE)
    keys = ("stage", "batch_size", "classes", "rule")
    entry = next((r for r in content["results"] if tuple(r[k] for k in keys) == wanted), None)
    if entry is None:
        return None
    angle = entry["cross_entropy"]["all layers"]["angle"]
    lies = f"{angle['mean']:.0f}" + (f" ({angle['sd']:.0f})" if angle["sd"] else "")
    config = plan["config"]
    return (
        f"{config['dataset']}, {config['architecture']}, after {last[0]} epochs: Q-AGREL's "
        f"expected update lies {lies}° from the cross-entropy's gradient"
    )


def _agrel(results: Path) -> str | None:
    from experiments.agrel.__main__ import compare

    content = _read(results / "agrel" / "summary.json")
    if content is None:
        return None
    rules = {(row["task"], row["rule"]): row for row in content["results"]}
    tasks = dict.fromkeys(task for task, _ in rules)
    ratios = [
        compare(rules[task, "agrel"], rules[task, "backprop"])["median_ratio_agrel_to_backprop"]
        for task in tasks
    ]
    known = [ratio for ratio in ratios if ratio is not None]
    if not known:
        return None
    low, high = f"{min(known):.2f}", f"{max(known):.2f}"
    return (
        f"{low if low == high else f'{low} to {high}'} times backprop's trials to criterion "
        f"({display.counted(len(known), 'task')}, both rules at one learning rate)"
        f"{_agrel_at_a_higher_rate(results)}"
    )


def _agrel_at_a_higher_rate(results: Path) -> str:
    content = _read(results / "agrel_digits_fast" / "summary.json")
    if content is None:
        return ""
    rules = {row["rule"]: row for row in content["results"]}
    ours, control = (
        f"{sum(t is not None for t in rules[name]['trials'])} of {rules[name]['networks']}"
        for name in ("agrel", "backprop")
    )
    rate = rules["agrel"]["learning_rate"]
    return f"; on the digits at {rate:g} {ours} networks learn, with backprop {control}"


def _memory(results: Path) -> str | None:
    run = memory_cells.read(results / "working_memory" / "saccade")
    if run is None or run["median_trials"] is None:
        return _share("saccade")(results)
    paper = memory.PAPER["saccade"]
    return (
        f"saccade: {100 * run['converged_fraction']:.1f} % of networks converge, median "
        f"{run['median_trials']:,.0f} trials (paper: {100 * paper.converged / paper.networks:.4g} "
        f"%, about {paper.median:,})"
    )


def _curve_tracing(results: Path) -> str | None:
    found = list(curve_tracing.read(results).values())
    anywhere = [content for content in found if not content["config"].get("apart")]
    if not anywhere:
        return None
    length, accuracy = anywhere[0]["max_length"], anywhere[0]["config"]["accuracy"]
    anywhere = [content for content in anywhere if content["max_length"] == length]
    apart = [c for c in found if c["config"].get("apart") and c["max_length"] == length]
    reached = sum(content["converged"] for content in anywhere)
    text = (
        f"curves of {length} pixels, frozen test: {reached} of {_networks(anywhere)} networks "
        f"reach {accuracy:.0%}, {_without_error(anywhere)} one of 500 trials without an error"
    )
    if not apart:
        return text
    return (
        f"{text}; with `--apart` (no pixel beside both curves) {_without_error(apart)} of "
        f"{_networks(apart)} do"
    )


def _networks(found: list[dict[str, Any]]) -> int:
    return sum(content["networks"] for content in found)


def _without_error(found: list[dict[str, Any]]) -> int:
    return sum(content["all_right"]["converged"] for content in found)


def _share(name: str) -> Callable[[Path], str | None]:
    def headline(results: Path) -> str | None:
        run = memory_cells.read(results / "working_memory" / name)
        if run is None:
            return None
        text = f"{sum(t is not None for t in run['trials'])} of {run['networks']} networks converge"
        median = run["median_trials"]
        return text if median is None else f"{text}, median {median:,.0f} trials"

    return headline


def _hybrid(results: Path) -> str | None:
    text = _share("twelve_ax_hybrid")(results)
    run = memory_cells.read(results / "working_memory" / "twelve_ax_hybrid")
    if text is None or run is None or run["mean_trials"] is None:
        return text
    paper = memory_successors.PUBLISHED["hybrid"]
    return (
        f"{text}, mean {run['mean_trials']:,.0f} (paper: {paper.converged} of {paper.networks}, "
        f"mean {paper.mean:,}: not reproduced)"
    )


def _levels(name: str) -> Callable[[Path], str | None]:
    """Return who converged, and the trials of the first level beside those of the others."""

    def headline(results: Path) -> str | None:
        text, run = _share(name)(results), memory_cells.read(results / "working_memory" / name)
        if run is None or text is None:
            return None
        medians = [level["median_trials"] for level in run["levels"] if level["median_trials"]]
        if len(medians) < 2:
            return text
        first, low, high = medians[0], min(medians[1:]), max(medians[1:])
        return f"{text}: for the first set {first:,.0f}, for each other {low:,.0f} to {high:,.0f}"

    return headline


def _new_letters(results: Path) -> str | None:
    content = _read(results / "working_memory" / "new_letters" / new_letters.FILE)
    if content is None:
        return None
    told = [
        f"{plots.RULES[line['rule']]} {mean_sd(new_letters.balanced(line)[1], 1)}"
        for line in content["runs"]
        if line["learned"]
    ]
    return f"accuracy on new letters, by run, %: {', '.join(told)} (chance 50)"


def _memory_speed(results: Path) -> str | None:
    content = _read(results / "memory_speed" / "memory_speed.json")
    if content is None:
        return None
    ratios = (
        f"{row['qagrel_jax_over_numpy']:.2f} with {row['networks']:,}"
        for row in (content["rows"][0], content["rows"][-1])
    )
    return f"trials/s, ours / NumPy, by networks: {', '.join(ratios)}"


def _benchmark(results: Path) -> str | None:
    content = _read(results / "benchmark" / "benchmark.json")
    if content is None:
        return None
    steps, torch = content["q_agrel_over_backprop"].values(), content["vs_torch"]
    text = f"a step takes {min(steps):.2f} to {max(steps):.2f} times that of backprop"
    ratios = [f"{net} {ratio:.2f}" for net, ratio in torch.items() if ratio is not None]
    return text + (f"; images/s, ours / eager PyTorch: {', '.join(ratios)}" if ratios else "")


def _streaming(results: Path) -> str | None:
    content = _read(results / "streaming_speed" / "streaming_speed.json")
    if content is None:
        return None
    ratios = (
        f"{name} {cell['streamed_over_resident']:.2f}" for name, cell in content["results"].items()
    )
    return f"images/s, streamed / in memory: {', '.join(ratios)}"


EXPERIMENTS = (
    Experiment(
        "Does Q-AGREL reach the accuracy of backprop on the papers' image sets, and how fast?",
        "reproduce",
        _accuracies("cells/mnist_conv/paper"),
        "results/cells/README.md",
    ),
    Experiment(
        "Does Q-AGREL reach the accuracy of backprop on the embedded digits?",
        "train",
        _accuracies("digits"),
        "results/digits/README.md",
    ),
    Experiment(
        "Does lower precision change the accuracy?",
        "train --precision bfloat16",
        _precision,
        "results/digits/README.md#float32-tensorfloat-32-and-bfloat16",
    ),
    Experiment(
        "Which settings learn the digits fastest?",
        "train digits_fast --first-seed 100",
        _accuracies("digits_fast"),
        "results/digits_fast/README.md",
    ),
    Experiment(
        "Do the settings found on the digits learn MNIST fast?",
        "train mnist_dense_fast",
        _accuracies("mnist_dense_fast"),
        "results/mnist_dense_fast/README.md",
    ),
    Experiment(
        "Do they with the convolutional network?",
        "train mnist_conv_fast --seeds 1",
        _accuracies("mnist_conv_fast"),
        "results/mnist_conv_fast/README.md",
    ),
    Experiment(
        "Does a learning rate of 1 explain the published accuracy of the dense network?",
        "train mnist_dense --learning-rate 1 --seeds 3",
        _accuracies("mnist_dense_rate_1"),
        "results/mnist_dense_rate_1/README.md",
    ),
    Experiment(
        "What makes learning from the papers' small weights faster?",
        "train mnist_dense --curriculum index --rule q_agrel --seeds 3",
        _small_weights,
        "results/small_weights/README.md",
    ),
    Experiment(
        "Does the class curriculum help with 100 classes?",
        "train tiny_imagenet100_conv --rule q_agrel --seeds 1 --curriculum index "
        "--curriculum-start 10 --curriculum-step 10 --curriculum-max-wait 390",
        hundred_classes.headline,
        "results/hundred_classes/README.md",
    ),
    Experiment(
        "Which accuracy does the dense network reach in eight epochs from He initialization?",
        "train mnist_dense --initialization he --protocol clean --seeds 1 --epochs 8",
        _accuracies("mnist_dense_he_8_epochs"),
        "results/mnist_dense_he_8_epochs/README.md",
    ),
    Experiment(
        "What does each component of the rule contribute?",
        "controls",
        _controls,
        "results/controls/README.md",
    ),
    Experiment(
        "How well do networks learn with separate feedback weights?",
        "feedback --configs mnist_dense_fast --epochs 20 --kinds kolen_pollack "
        "--weight-decay 0.004 --weight-decay-epochs 3",
        _feedback,
        "results/feedback/README.md",
    ),
    Experiment(
        "How do bias and variance of one update compare, rule by rule?",
        "update_statistics",
        _update_statistics,
        "results/update_statistics/README.md",
    ),
    Experiment(
        "How many trials does AGREL need, compared with backprop?",
        "agrel",
        _agrel,
        "results/agrel/README.md",
    ),
    Experiment(
        "Does AuGMEnT learn the four working-memory tasks as published?",
        "working_memory saccade",
        _memory,
        "results/working_memory/README.md",
    ),
    Experiment(
        "Does RECOLLECT learn the saccade task without a reset of its memory?",
        "working_memory saccade --rule recollect",
        _share("recollect_saccade"),
        "results/working_memory/README.md",
    ),
    Experiment(
        "Does WorkMATe, once it has learned to compare, need few trials for new stimuli?",
        "working_memory match_to_sample --rule workmate --networks 200",
        _levels("workmate_match_to_sample"),
        "results/working_memory/README.md",
    ),
    Experiment(
        "Do trained networks compare letters they have never seen?",
        "new_letters runs/RUN",
        _new_letters,
        "results/working_memory/README.md",
    ),
    Experiment(
        "Does AuGMEnT learn 12AX with memory units of which half leak?",
        "working_memory twelve_ax --leak 0.7,1 --networks 60",
        _hybrid,
        "results/working_memory/README.md",
    ),
    Experiment(
        "Does RELEARNN learn to trace curves with a recurrent network?",
        "curve_tracing --max-length 7 --final-accuracy 1",
        _curve_tracing,
        "results/curve_tracing/README.md",
    ),
    Experiment(
        "How fast is AuGMEnT, compared with NumPy?",
        "memory_speed",
        _memory_speed,
        "results/memory_speed/README.md",
    ),
    Experiment(
        "How fast is training, compared with backprop and PyTorch?",
        "benchmark",
        _benchmark,
        "results/benchmark/README.md",
    ),
    Experiment(
        "What does streaming images from disk cost?",
        "streaming_speed",
        _streaming,
        "results/streaming_speed/README.md",
    ),
)
