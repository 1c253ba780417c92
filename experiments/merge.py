"""One run out of several of the same recipe whose rules were trained apart, as on a core each.

    python -m experiments.train mnist_dense --rule q_agrel --seeds 3 --out runs/q
    python -m experiments.train mnist_dense --rule backprop --seeds 3 --out runs/b
    python -m experiments.merge runs/q runs/b --out runs/mnist_dense

DIR gets what ``experiments.train`` with all of their rules leaves, and can be resumed: lines of the
epochs, checkpoints (where they are there), pictures, and, if all of the runs are finished, the
summary with the slowdown. Nothing is changed in the runs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import config as configs
from experiments.common import cli, fields, files, folders
from experiments.common.cli import UserError
from experiments.config import Config
from experiments.train import folder as run_folder

LINES = ("metrics.jsonl", "timings.jsonl")


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, check that the runs are parts of one, write it."""
    parser = cli.Parser(prog="python -m experiments.merge", description=__doc__)
    parser.add_argument("runs", nargs="+", type=cli.path, metavar="RUN", help="folder of a run")
    parser.add_argument("--out", type=cli.path, metavar="DIR", required=True, help="a new folder")
    arguments = parser.parse_args(argv)
    parts = {folder: _config(folder) for folder in _apart(arguments.runs)}
    config = merged(parts)
    with cli.interrupted_says("nothing was written"), folders.claimed(arguments.out):
        write(arguments.out, config, parts)
    state = "finished" if (arguments.out / "summary.json").is_file() else "not finished"
    print(f"{arguments.out}: {', '.join(config.rules)}, {state}")


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
    """Write the run of ``config`` whose rules are in ``parts``; all is read before."""
    from experiments import plots
    from experiments.train import summary
    from experiments.train.one_rule import describe
    from qagrel_jax.training import checkpoints

    lines = {name: [x for p in parts for x in files.read_metrics(p, name)] for name in LINES}
    environments = [x for part in parts for x in files.environments(part)]
    entries = [entry for part in parts for entry in _entries(part)]
    read = [(rule, _checkpoint(p, rule)) for p, its_own in parts.items() for rule in its_own.rules]
    for name, its_lines in lines.items():
        files.write_lines(out / name, its_lines)
    files.write_lines(out / "environments.jsonl", environments)
    for rule, found in read:
        if found is not None:
            content, metadata = found
            described = metadata | describe(config, rule)
            checkpoints.write(run_folder.checkpoint(out, rule), content, described)
    if len(entries) == len(config.rules):
        whole = summary.summarize(config, entries, lines["metrics.jsonl"], environments)
        for entry, its_own in zip(whole["results"], entries, strict=True):
            entry |= {key: its_own[key] for key in ("device", "versions", "commit")}
        files.write_json(out / "summary.json", whole)
    files.write_json(out / configs.FILE, configs.to_json(config))
    plots.of_run(out)


def _entries(part: Path) -> list[dict[str, Any]]:
    """Return the results of a finished run, a rule each; of another one, none."""
    content = files.read_json(part / "summary.json")
    try:
        return [dict(entry) for entry in content["results"]] if content else []
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{part / 'summary.json'} is damaged: move it away and --resume") from None


def _checkpoint(part: Path, rule: str) -> tuple[bytes, dict[str, Any]] | None:
    """Read a rule's checkpoint and what it says it is of; None if there is none."""
    from experiments.common import saved
    from qagrel_jax.training import checkpoints

    path = run_folder.checkpoint(part, rule)
    if not path.is_file():
        return None
    with saved.explained(path):
        content, metadata = checkpoints.read(path)
    return content, metadata or {}


if __name__ == "__main__":
    cli.run(main)
