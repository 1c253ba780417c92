"""One run out of several of the same recipe whose rules were trained apart, as on a core each.

    python -m experiments.train mnist_dense --rule q_agrel --seeds 3 --out runs/q
    python -m experiments.train mnist_dense --rule backprop --seeds 3 --out runs/b
    python -m experiments.merge runs/q runs/b --out runs/mnist_dense

DIR gets what ``experiments.train`` with all of their rules leaves, and can be resumed: lines of the
epochs, checkpoints (where they are there), pictures, and, if all of the runs are finished, the
summary with the slowdown; it gets all of that or nothing. Nothing is changed in the runs.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments import config as configs
from experiments.common import cli, fields, files, folders
from experiments.common.cli import UserError
from experiments.config import Config
from experiments.train import folder as run_folder

ORIGIN = ("device", "versions", "commit")
NEEDED = {*ORIGIN, "rule", "best_epoch", "best_monitored_accuracy"}
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
        write(arguments.out, config, parts)
    state = "finished" if (arguments.out / "summary.json").is_file() else "not finished"
    print(f"{arguments.out}: {', '.join(config.rules)}, {state}")


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


def merged(parts: dict[Path, Config]) -> Config:
    """Return the configuration of which ``parts`` are the rules.

    Raises:
      UserError: runs that differ in more than their rules, or have a rule in common.
    """
    (first, config), *others = parts.items()
    rules = config.rules
    for folder, other in others:
        different = [n for n in configs.difference(config, other) if n != "rules"]
        if different:
            told = fields.told(config, other, different)
            raise UserError(f"{first} and {folder} are not of one recipe: {told}")
        if twice := set(rules) & set(other.rules):
            raise UserError(f"{folder}: another run has {', '.join(sorted(twice))}, too")
        rules += other.rules
    return configs.replace(config, {"rules": rules})


def write(out: Path, config: Config, parts: dict[Path, Config]) -> None:
    """Write the run of ``config`` whose rules are in ``parts``; all is read and reckoned before."""
    from experiments import plots
    from experiments.train.one_rule import describe
    from qagrel_jax.training import checkpoints

    metrics = [line for part in parts for line in files.read_metrics(part)]
    results = {part: _entries(part, its_own) for part, its_own in parts.items()}
    environments, timings = _sessions(results)
    read = [(rule, _checkpoint(p, rule)) for p, its_own in parts.items() for rule in its_own.rules]
    unfinished = {part: its_own for part, its_own in parts.items() if not results[part]}
    failures: dict[str, str] = {}
    for part, its_own in unfinished.items():
        failures |= run_folder.failures(part, its_own.rules)
    whole = None
    if not unfinished:
        entries = [entry for part in parts for entry in results[part]]
        whole = _summary(config, entries, metrics, environments, timings)

    files.write_lines(out / "metrics.jsonl", metrics)
    files.write_lines(out / "timings.jsonl", timings)
    files.write_lines(out / "environments.jsonl", environments)
    for rule, found in read:
        if found is not None:
            content, metadata = found
            described = metadata | describe(config, rule)
            checkpoints.write(run_folder.checkpoint(out, rule), content, described)
    if failures:
        run_folder.write_failures(out, failures)
    if whole is not None:
        files.write_json(out / "summary.json", whole)
    files.write_json(out / configs.FILE, configs.to_json(config))
    plots.of_run(out)


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
    results: dict[Path, list[dict[str, Any]]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what all sessions of the parts ran on, and the lines of times, which count them."""
    environments: list[dict[str, Any]] = []
    timings = []
    for part, entries in results.items():
        its_own = files.environments(part) or _environment(part, entries)
        for line in files.read_metrics(part, "timings.jsonl"):
            number = len(environments) + run_folder.session_number(line, its_own)
            timings.append(line | {"session": number})
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


def _checkpoint(part: Path, rule: str) -> tuple[bytes, dict[str, Any]] | None:
    """Read a rule's checkpoint and what it says it is of; None if there is none."""
    from experiments.common import saved
    from qagrel_jax.training import checkpoints

    path = run_folder.checkpoint(part, rule)
    if not path.is_file():
        return None
    with saved.explained(path):
        content, metadata = checkpoints.read(path)
    if metadata is not None and metadata.get("rule") != rule:
        raise UserError(f"{path} is of the rule {metadata.get('rule')}: move it away and --resume")
    return content, metadata or {}


if __name__ == "__main__":
    cli.run(main)
