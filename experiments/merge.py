"""One run out of several of the same recipe whose rules or seeds were trained apart.

    # a rule on each core
    python -m experiments.train mnist_dense --rule q_agrel --seeds 3 --out runs/q
    python -m experiments.train mnist_dense --rule backprop --seeds 3 --out runs/b
    python -m experiments.merge runs/q runs/b --out runs/mnist_dense

    # a seed in each job of a cluster, whose number is N
    python -m experiments.train mnist_dense --seeds 1 --first-seed N --out runs/seed_N
    python -m experiments.merge runs/seed_* --out runs/mnist_dense

Runs of further seeds must be finished, have all of the rules, and begin where others end.

DIR gets what ``experiments.train`` with all of their rules and seeds leaves, and can be resumed:
lines of the epochs, checkpoints (where they are there), pictures, and, if all of the runs are
finished, the summary with the slowdown; it gets all of that or nothing. Nothing is changed in the
runs.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments import config as configs
from experiments.common import cli, display, files, folders
from experiments.common.cli import UserError
from experiments.config import Config
from experiments.train import folder as run_folder
from experiments.train import joined
from experiments.train.parts import Parts, by_seeds, merged

ORIGIN = ("device", "versions", "commit")
NEEDED = {*ORIGIN, "rule", "epochs", "test_accuracy", "best_epoch", "best_monitored_accuracy"}
"""What is used here of a rule's results."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, check that the runs are parts of one, write it."""
    parser = cli.Parser(prog="python -m experiments.merge", description=__doc__)
    parser.add_argument("runs", nargs="+", type=cli.path, metavar="RUN", help="folder of a run")
    parser.add_argument("--out", type=cli.path, metavar="DIR", required=True, help="a new folder")
    arguments = parser.parse_args(argv)
    parts = {folder: _config(folder) for folder in _apart(arguments.runs)}
    config = merged(parts)
    with (
        cli.interrupted_says("nothing was written"),
        folders.claimed(arguments.out),
        _whole_or_absent(arguments.out),
    ):
        write(arguments.out, config, read(config, parts))
    state = "finished" if (arguments.out / "summary.json").is_file() else "not finished"
    seeds = display.counted(config.seeds, "seed")
    print(f"{arguments.out}: {', '.join(config.rules)}, {state}, {seeds}")


@contextlib.contextmanager
def _whole_or_absent(out: Path) -> Iterator[None]:
    """Remove what was written to ``out``, which was empty, if the block does not end well."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for path in folders.visible(out):
                path.unlink()
        raise


def _apart(folders_: Sequence[Path]) -> Sequence[Path]:
    seen = set()
    for folder in folders_:
        if folder.resolve() in seen:
            raise UserError(f"{folder} is given twice: each run is a part of its own")
        seen.add(folder.resolve())
    return folders_


def _config(folder: Path) -> Config:
    configs.check_run(folder)
    return configs.saved(folder)


class Merged(NamedTuple):
    """What the files of the run hold."""

    metrics: list[dict[str, Any]]  # lines
    timings: list[dict[str, Any]]  # lines
    environments: list[dict[str, Any]]  # lines
    checkpoints: dict[str, tuple[bytes, dict[str, Any]]]  # rule: content and metadata
    failures: dict[str, str]  # rule: why it cannot continue
    summary: dict[str, Any] | None  # None: not finished


def read(config: Config, parts: Parts) -> Merged:
    """Read the run of ``config`` whose rules and seeds are in ``parts``.

    Raises:
      UserError: a file that is damaged, or of something else.
    """
    # Seed after seed, in the order given within the same seeds.
    parts = {part: its_own for group in by_seeds(parts) for part, its_own in group.items()}
    entries = {part: _entries(part, its_own) for part, its_own in parts.items()}
    environments, timings = _sessions(parts, entries)
    metrics, checkpoints, results = [], {}, []
    for rule in config.rules:
        of_rule = {part: its_own for part, its_own in parts.items() if rule in its_own.rules}
        # Before the lines: a run that is at work may be ahead of its checkpoint, not behind.
        if (checkpoint := _checkpoint(of_rule, rule)) is not None:
            checkpoints[rule] = checkpoint
        found = {part: e for part in of_rule for e in entries[part] if e["rule"] == rule}
        lines = [_lines(part, its_own, rule, found.get(part)) for part, its_own in of_rule.items()]
        metrics += joined.lines(lines)
        if len(found) == len(of_rule):
            of_times = [line for line in timings if line["rule"] == rule]
            results.append(_entry(list(found.values()), of_times))
    failures: dict[str, str] = {}
    for part, its_own in parts.items():
        failures |= {} if entries[part] else run_folder.failures(part, its_own.rules)
    whole = None
    if len(results) == len(config.rules):
        whole = _summary(config, results, metrics, environments, timings)
    return Merged(metrics, timings, environments, checkpoints, failures, whole)


def write(out: Path, config: Config, run: Merged) -> None:
    """Write the files of the run, ``config.json`` last, and draw the pictures."""
    from experiments import plots
    from experiments.train.one_rule import describe
    from qagrel_jax.training import checkpoints

    files.write_lines(out / "metrics.jsonl", run.metrics)
    files.write_lines(out / "timings.jsonl", run.timings)
    files.write_lines(out / "environments.jsonl", run.environments)
    for rule, (content, metadata) in run.checkpoints.items():
        described = metadata | describe(config, rule)
        checkpoints.write(run_folder.checkpoint(out, rule), content, described)
    if run.failures:
        run_folder.write_failures(out, run.failures)
    if run.summary is not None:
        files.write_json(out / "summary.json", run.summary)
    files.write_json(out / configs.FILE, configs.to_json(config))
    plots.of_run(out)


def _lines(
    part: Path, config: Config, rule: str, entry: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """Return a rule's lines, whole: of all its epochs, if ``entry`` says that it is finished."""
    from experiments.train import summary

    lines = [line for line in files.read_metrics(part) if line["rule"] == rule]
    epochs = len(lines) if entry is None else entry["epochs"]
    there = [line["epoch"] for line in lines]
    path = part / "metrics.jsonl"
    if there != list(range(1, epochs + 1)) or (
        lines and summary.accuracy_curves(lines, rule, path).shape != (epochs, config.seeds)
    ):
        raise UserError(f"{path} lacks epochs of {rule}, or is damaged: copy the whole run again")
    return lines


def _entry(parts: list[dict[str, Any]], timings: list[dict[str, Any]]) -> dict[str, Any]:
    from experiments.train import summary

    whole = joined.entry(parts)
    if len(parts) > 1 and timings:
        whole["images_per_second"] = summary.images_per_second(timings)
    return whole


def _entries(part: Path, config: Config) -> list[dict[str, Any]]:
    """Return the results of a finished run, a rule each; of another one, none."""
    content = run_folder.saved_summary(part)
    if content is None:
        return []
    run_folder.check_summary(part, config, content)
    entries = [dict(entry) for entry in content["results"]]
    if not all(entry.keys() >= NEEDED for entry in entries):
        raise UserError(f"{part / 'summary.json'} is damaged: move it away and --resume")
    return entries


def _sessions(
    parts: Parts, results: dict[Path, list[dict[str, Any]]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what all sessions of the parts ran on, and the lines of times, which count them."""
    environments: list[dict[str, Any]] = []
    timings = []
    apart = len(by_seeds(parts)) > 1
    for part, config in parts.items():
        its_own = files.environments(part) or _environment(part, results[part])
        whose = {"seeds": list(range(config.first_seed, config.first_seed + config.seeds))}
        for line in files.read_metrics(part, "timings.jsonl", ("seconds",)):
            number = len(environments) + run_folder.session_number(line, its_own)
            # A part that was merged itself says whose epochs its lines are.
            timings.append((whose if apart else {}) | line | {"session": number})
        environments += its_own
    return environments, timings


def _environment(part: Path, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what a finished run without ``environments.jsonl`` says of its one session."""
    content = run_folder.saved_summary(part)
    if content is None or "command" not in content:
        path = part / "environments.jsonl"
        raise UserError(f"{path} is missing or damaged: --resume the run to its end first")
    return [{key: entries[0][key] for key in ORIGIN} | {"command": content["command"]}]


def _summary(
    config: Config,
    entries: list[dict[str, Any]],
    metrics: list[dict[str, Any]],
    environments: list[dict[str, Any]],
    timings: list[dict[str, Any]],
) -> dict[str, Any]:
    """Sum the whole run up; where a rule was trained is what its own run says of it."""
    from experiments.train import summary

    whole = summary.summarize(config, entries, metrics, environments, timings)
    for entry, its_own in zip(whole["results"], entries, strict=True):
        entry |= {key: its_own[key] for key in ORIGIN}
    return whole


def _checkpoint(parts: Parts, rule: str) -> tuple[bytes, dict[str, Any]] | None:
    """Read a rule's checkpoints, as one, and what the first says it is of; None if one lacks."""
    from experiments.train.one_rule import read_checkpoint

    contents, described = [], []
    for part, config in parts.items():
        found = read_checkpoint(part, config, rule)
        if found is None:
            return None
        contents.append(found[0])
        described.append(found[1])
    if len(contents) == 1:
        return contents[0], described[0]
    try:
        return joined.checkpoint(contents), described[0]
    except ValueError:
        told = ", ".join(str(run_folder.checkpoint(part, rule)) for part in parts)
        raise UserError(f"{told} are not of one structure: move them away") from None


if __name__ == "__main__":
    cli.run(main)
