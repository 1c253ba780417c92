"""Train Q-AGREL and its control on images: one command from a reward to a trained network.

    python -m experiments.train                    # the embedded digits, a minute on 2 cores
    python -m experiments.train mnist_dense        # one of the papers' networks
    python -m experiments.train mnist_dense --rule q_agrel --feedback kolen_pollack --seeds 3
    python -m experiments.train --out DIR --resume # resume after a crash

DIR gets config.json, environments.jsonl, metrics.jsonl, timings.jsonl, a checkpoint a rule,
learning_curves.png, class_discovery.png, angles.png (feedback that is not tied), and at the end
summary.json. Data are looked for in --data-dir, else
$TFDS_DATA_DIR, else ~/tensorflow_datasets.
"""

import contextlib
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import config as configs
from experiments import tensorboard
from experiments.common import cli, devices, fields, files, folders, provenance
from experiments.common.cli import UserError
from experiments.config import Config
from experiments.train import folder as run_folder
from experiments.train import idle


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, train every rule, sum up."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser(_shown_in_help(argv)).parse_args(argv)
    folders.check_resume(arguments.resume, arguments.out)
    if arguments.tensorboard:
        tensorboard.check()
    if arguments.coordinator is None:
        config, _ = _what_and_where(arguments)  # before the mesh wakes the devices
        devices.check(arguments.mesh, config.seeds, config.batch_size)
    mesh = devices.join(arguments)
    with devices.own_folder(arguments.out, mesh) as arguments.out:
        config, folder = _what_and_where(arguments)
        devices.check(mesh, config.seeds, config.batch_size)
        if arguments.resume and not configs.holds_run(folder):
            named = arguments.config is not None or bool(fields.given(Config, arguments))
            folders.start_instead(folder, (configs.FILE,), named)
        with cli.resumable("train", folder, configs.holds_run):
            event_files = arguments.tensorboard
            run(config, folder, arguments.resume, arguments.data_dir, math.inf, mesh, event_files)


def run(
    config: Config,
    folder: Path,
    resume: bool = False,
    data_dir: str | None = None,
    deadline: float = math.inf,
    mesh: Any = None,
    event_files: bool = False,
) -> dict[str, Any] | None:
    """Run ``config`` in ``folder`` on the devices of ``mesh`` (None: one); return its summary.

    Until a ``deadline`` on the clock of ``time.monotonic`` each rule that is not done gets an
    equal part of the time left. If that is too short, the summary is None and the folder holds
    what it takes to resume: ``resume`` then ends as a run without a deadline, on a CPU in the same
    bits. ``event_files`` for TensorBoard are kept up to date, if wanted.

    Raises:
      UserError: data that cannot be had, a folder that holds another run, a diverged seed.
    """
    began = run_folder.check(folder, config, resume)  # before the slow imports, if it fails
    content = run_folder.saved_summary(folder)
    if began and content is not None:
        saved = configs.saved(folder)
        run_folder.check_summary(folder, saved, content)
        if saved == config:
            return _done(folder, config, content, event_files)

    import jax

    from experiments.train import build, one_rule
    from qagrel_jax import data

    try:
        dataset = data.load(config.dataset, data_dir)
        splits = build.make_splits(dataset, config, mesh)
    except ValueError as error:
        raise UserError(str(error)) from None
    provenance.check_arrays(files.environments(folder), dataset, config.dataset, folder)
    with contextlib.ExitStack() as stack:
        with devices.together(mesh):
            stack.enter_context(folders.claimed(folder, (configs.FILE,), resume))
            if began and content is not None:
                one_rule.check_finished(folder, config, content)
            run_folder.claim(folder, config, resume)
            # Not before the folder is ours: event files of another run would be replaced.
            stack.enter_context(tensorboard.following(folder, event_files))
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


def _done(
    folder: Path, config: Config, content: dict[str, Any], event_files: bool
) -> dict[str, Any]:
    """Print the table of a run that is done; draw what a kill left undrawn."""
    from experiments.train import summary

    summary.print_table(content)
    if run_folder.missing_pictures(folder, config) and files.read_metrics(folder):
        with folders.locked(folder):
            _draw(folder)
    if event_files:
        with folders.locked(folder), tensorboard.following(folder, event_files):
            pass
    print(f"everything is in {folder}")
    return content


def _draw(folder: Path) -> None:
    from experiments import plots

    plots.of_run(folder)


def _train(
    config: Config, folder: Path, dataset: Any, splits: Any, deadline: float, mesh: Any
) -> dict[str, Any] | None:
    """Train every rule in a folder that is ours; see ``run``."""
    from experiments.train import one_rule, summary

    # Of the code that runs, not of a later commit.
    files.append_line(folder / "environments.jsonl", provenance.environment(mesh, dataset))
    results: list[dict[str, Any]] = []
    diverged: dict[str, one_rule.Diverged] = {}
    for rules_left, rule in zip(range(len(config.rules), 0, -1), config.rules, strict=True):
        now = time.monotonic()
        until = now + (deadline - now) / rules_left
        try:
            result = one_rule.run_rule(folder, config, rule, dataset, splits, mesh, until)
            results += [] if result is None else [result]
        except one_rule.Diverged as error:  # the other rules can be trained
            diverged[rule] = error
            run_folder.write_failures(folder, {r: str(e) for r, e in diverged.items()})
    metrics = files.read_metrics(folder)
    content = None
    if len(results) == len(config.rules):
        timings = files.read_metrics(folder, "timings.jsonl")
        environments = files.environments(folder)
        content = summary.summarize(config, results, metrics, environments, timings)
        run_folder.remove_pictures(folder)
        files.write_json(folder / "summary.json", content)
        (folder / "failed.json").unlink(missing_ok=True)
        summary.print_table(content)  # before the pictures, which take a second or two
    if metrics:
        _draw(folder)
    if diverged:
        *_, last = diverged.values()
        if len(results) + len(diverged) == len(config.rules):
            raise last
        print(f"error: {last} (the other rules can go on)", file=sys.stderr)
    if content is not None:
        print(f"everything is in {folder}")
    return content


def _what_and_where(arguments: Any) -> tuple[Config, Path]:
    given = fields.given(Config, arguments)
    if arguments.resume and configs.holds_run(arguments.out):
        saved = configs.saved(arguments.out)
        base = saved if arguments.config is None else configs.load(arguments.config)
        config = configs.override(base, given)
        return configs.replace(config, {"name": saved.name}), arguments.out
    base = configs.load(configs.DEFAULT if arguments.config is None else arguments.config)
    config = configs.override(base, given)
    idle.check(config, given)
    return config, arguments.out or folders.default(config.name)


def _shown_in_help(argv: Sequence[str]) -> Config:
    """Return the config whose values the help shows: the one chosen, or the default."""
    default = configs.load(configs.DEFAULT)
    rest = [argument for argument in argv if argument not in ("-h", "--help")]
    if len(rest) == len(argv):
        return default
    name = _parser(default).parse_known_args(rest)[0].config
    return default if name is None else configs.load(name)


def _parser(shown: Config) -> cli.Parser:
    parser = cli.Parser(
        prog="python -m experiments.train", usage="%(prog)s [CONFIG] [options]", description=__doc__
    )
    parser.add_argument(
        "config",
        nargs="?",
        metavar="CONFIG",
        help=f"{', '.join(configs.names())}, or the path of such a .py file; default: digits",
    )
    folders.add_options(parser, "CONFIG", resume=True)
    cli.add_data_dir(parser)
    parser.add_argument("--tensorboard", action="store_true", help="write event files, too")
    devices.add_options(parser)
    fields.add_options(parser, Config, shown)
    return parser


if __name__ == "__main__":
    cli.run(main)
