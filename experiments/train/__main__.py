"""Train Q-AGREL and its control on images: one command from a reward to a trained network.

    python -m experiments.train                    # the embedded digits, a minute on 2 cores
    python -m experiments.train mnist_dense        # a cell of the papers
    python -m experiments.train mnist_dense --rule q_agrel --feedback kolen_pollack --seeds 3
    python -m experiments.train --out DIR --resume # go on after a crash

DIR gets config.json, environments.jsonl, metrics.jsonl, timings.jsonl, a checkpoint a rule,
learning_curves.png, class_discovery.png, angles.png (feedback that is not tied), and at the end
summary.json. Data are looked for in --data-dir, else
$TFDS_DATA_DIR, else ~/tensorflow_datasets.
"""

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import config as configs
from experiments import tensorboard
from experiments.common import cli, files, folders, provenance
from experiments.common import devices as distributed
from experiments.common.cli import UserError
from experiments.config import Config
from experiments.train import folder as run_folder


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, train every rule, sum up."""
    arguments = _parser().parse_args(argv)
    if arguments.resume and arguments.out is None:
        raise UserError("--resume needs --out DIR, the folder of the run to go on with")
    mesh = distributed.join(arguments)
    with distributed.own_folder(arguments.out, mesh) as arguments.out:
        config, folder = _what_and_where(arguments)
        if arguments.resume and not run_folder.holds_run(folder):
            print(f"{folder} holds no run yet: starting one", file=sys.stderr)
        distributed.check(mesh, config)
        with cli.resumable(folder), tensorboard.following(folder, arguments.tensorboard):
            run(config, folder, arguments.resume, arguments.data_dir, mesh=mesh)


def run(
    config: Config,
    folder: Path,
    resume: bool = False,
    data_dir: str | None = None,
    deadline: float = math.inf,
    mesh: Any = None,
) -> dict[str, Any] | None:
    """Run ``config`` in ``folder`` on the devices of ``mesh`` (None: one); return its summary.

    Until a ``deadline`` on the clock of ``time.monotonic`` each rule that is not done gets an
    equal part of the time left. If that is too short, the summary is None and the folder holds
    what it takes to go on: ``resume`` then ends as a run without a deadline, on a CPU in the same
    bits.

    Raises:
      UserError: data that cannot be had, a folder that holds another run, a diverged seed.
    """
    run_folder.check(folder, config, resume)  # before the slow imports, if it fails

    from experiments.train import summary

    content = run_folder.saved_summary(folder)
    if content is not None and run_folder.saved_config(folder) == config:
        summary.print_table(content, folder)
        return content

    import jax

    from experiments.train import one_rule as image_run
    from qagrel_jax import data

    try:
        dataset = data.load(config.dataset, data_dir)
        splits = image_run.make_splits(dataset, config, mesh)
    except ValueError as error:
        raise UserError(str(error)) from None
    with contextlib.ExitStack() as stack:
        with distributed.together(mesh):
            stack.enter_context(folders.locked(folder))
            run_folder.claim(folder, config, resume)
        try:
            return _train(config, folder, dataset, splits, deadline, mesh)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise UserError(
                f"out of memory on {provenance.device(mesh)}: in a new --out run the seeds one "
                "after the other (--seeds-by map) or fewer --seeds, or divide them over more "
                "devices (--mesh seeds)"
            ) from None


def _train(
    config: Config, folder: Path, dataset: Any, splits: Any, deadline: float, mesh: Any
) -> dict[str, Any] | None:
    """Train every rule in a folder that is ours; see ``run``."""
    from experiments import plots
    from experiments.train import one_rule as image_run
    from experiments.train import summary

    # Of the code that runs, not of a later commit.
    run_folder.append_line(folder / "environments.jsonl", provenance.environment(mesh))
    results, diverged = [], None
    for rules_left, rule in zip(range(len(config.rules), 0, -1), config.rules, strict=True):
        now = time.monotonic()
        until = now + (deadline - now) / rules_left
        try:
            results.append(image_run.run_rule(folder, config, rule, dataset, splits, mesh, until))
        except image_run.Diverged as error:  # the other rules can go on
            files.write_json(folder / "failed.json", {"error": str(error)})
            results.append(None)
            diverged = error
    metrics = run_folder.read_lines(folder / "metrics.jsonl")
    content = None
    if None not in results:
        environments = run_folder.read_lines(folder / "environments.jsonl")
        content = summary.summarise(config, results, metrics, environments)
        files.write_json(folder / "summary.json", content)
        (folder / "failed.json").unlink(missing_ok=True)
    if metrics:
        for draw in (plots.learning_curves, plots.class_discovery, plots.angles):
            draw(folder)
    if diverged is not None:
        raise diverged
    if content is not None:
        summary.print_table(content, folder)
    return content


def _what_and_where(arguments: Any) -> tuple[Config, Path]:
    fields = {entry.name for entry in dataclasses.fields(Config)}
    given = {k: v for k, v in vars(arguments).items() if k in fields and v is not None}
    if arguments.resume and run_folder.holds_run(arguments.out):
        saved = run_folder.saved_config(arguments.out)
        base = configs.load(arguments.config) if arguments.config else saved
        return configs.replace(base, given), arguments.out
    base = configs.load(arguments.config or configs.DEFAULT)
    if given.get("architecture", "dense") != "dense" and "hidden" not in given:
        given["hidden"] = None  # of the config's dense network
    config = configs.replace(base, given)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return config, arguments.out or Path("runs") / f"{config.name}-{stamp}"


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m experiments.train", description=__doc__)
    parser.add_argument(
        "config",
        nargs="?",
        metavar="CONFIG",
        help=f"{', '.join(configs.names())}, or the path of such a .py file; default: digits",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: runs/CONFIG-TIME")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--data-dir", metavar="DIR", help="default: $TFDS_DATA_DIR")
    distributed.add_options(parser)
    parser.add_argument("--tensorboard", action="store_true", help="write event files, too")
    group = parser.add_argument_group("what the config leaves open, or overrides")
    for entry in dataclasses.fields(Config):
        if entry.name != "name":
            _add_option(group, entry)
    return parser


def _add_option(group: Any, entry: dataclasses.Field) -> None:
    metadata, text = entry.metadata, entry.metadata["help"]
    flags = ["--" + entry.name.replace("_", "-")]
    if "choices" in metadata:
        aliases = configs.FEEDBACK_ALIASES if entry.name == "feedback" else None
        convert = cli.one_of(entry.name, metadata["choices"], aliases)
        text += f": {', '.join(metadata['choices'])}"
    elif "several" in metadata:
        flags.insert(0, "--rule")
        convert = cli.several(cli.one_of("rule", metadata["several"]))
        text += f": {', '.join(metadata['several'])}"
    elif entry.name == "hidden":
        convert = _sizes
    elif entry.name == "feedback_l2":
        convert = cli.number(float, 0, 1e9)
    elif "range" in metadata:
        low, high = metadata["range"]
        convert = cli.number(entry.type, low, high, open_low=metadata["open_low"])
    else:
        convert = str
    if entry.default is not dataclasses.MISSING:
        text += f" (unless the config says otherwise: {entry.default})"
    group.add_argument(*flags, dest=entry.name, type=convert, metavar="…", help=text)


def _sizes(text: str) -> tuple[int, ...]:
    count = cli.number(int, 1, 10**6)
    return tuple(int(count(size)) for size in text.split(","))


if __name__ == "__main__":
    cli.run(main)
