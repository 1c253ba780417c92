"""Kinds of feedback pathway: how well each network learns without weight transport.

    python -m experiments.feedback --configs digits --epochs 20      # some minutes on 2 cores
    python -m experiments.feedback --kinds tied,kolen_pollack --rules q_agrel --l2 5e-4
    python -m experiments.feedback --configs mnist_dense,mnist_conv --out DIR

Every cell, a network with one kind of feedback trained by one rule, has a run folder of its own,
DIR/CONFIG/KIND/RULE, as experiments.train writes it. The same command, given again, leaves finished
cells as they are and resumes an interrupted one, on a CPU bit for bit. Cells of several calls with
the same --out are summed up together, in DIR/summary.json, DIR/CONFIG/accuracy.png and
DIR/CONFIG/angles_RULE.png.

All cells run for --epochs, without early stopping. Of them output_layer_only is the baseline: tied
feedback, and hidden layers that stay as they were initialized. Options that follow are those of
experiments.train and take the place of a config's own; settings of feedback weights that learn, or
that are drawn, reach the kinds that have such.
"""

import dataclasses
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import config as configs
from experiments.common import cli, devices, fields, files, folders
from experiments.common.cli import UserError
from experiments.common.names import CONTROL_RULES, FEEDBACK_ALIASES, RULES
from experiments.config import Config
from experiments.feedback import cells
from experiments.feedback.cells import Cell
from experiments.train import folder as run_folder
from experiments.train import idle

OUT = Path("runs") / "feedback"
NOT_OPTIONS = (
    "dataset",
    "architecture",
    "rules",
    "feedback",
    "patience",
    "min_gain",
    "trained_layers",
    "criterion",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, train every cell that is not done, sum up all that are there."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser(_shown_in_help(argv)).parse_args(argv)
    out = arguments.out
    _check_own(out)
    planned = _plan(arguments)
    mesh = devices.arrange(arguments.mesh)
    codes, said = [0], set[str]()
    with cli.interrupted_says("the same command continues from here"):
        folders.check_writable(out)
        for cell in planned:
            if not cell.done or run_folder.missing_pictures(cell.folder, cell.config):
                codes.append(_run(cell, arguments.data_dir, mesh, said))
        write(out)
    left = sum(not cell.done for cell in planned)
    print(f"{len(planned) - left} of {len(planned)} cells are done; everything is in {out}")
    if any(codes):
        sys.exit(max(codes))


def _check_own(out: Path) -> None:
    """Raise ``UserError`` where ``out`` holds another command's files, which would be replaced."""
    folders.check_only(out, "README.md", "summary.json")
    try:
        content = files.read_json(out / "summary.json")
    except UserError:  # damaged, it is made anew
        content = None
    if content and "difference_is" not in content:
        raise UserError(f"{out} holds another run or other files: choose another --out")


def _plan(arguments: Any) -> list[Cell]:
    """Return the cells asked for; refuse options that change nothing in any of them."""
    given = fields.given(Config, arguments)
    asked = arguments.configs, arguments.kinds, arguments.rules_asked
    planned = cells.plan(arguments.out, *asked, given)
    # Calls that train a rule each have the settings of choices in common.
    idle.check_all([cell.config for cell in planned], given.keys() - set(idle.OF_CHOICES))
    return planned


def write(out: Path) -> dict[str, Any]:
    """Sum up every cell in ``out``: summary.json, pictures, tables; return the summary."""
    from experiments.feedback import plots, summary

    content = summary.summarize(out)
    if not content["results"]:
        return content
    with folders.explained(out):
        files.write_json(out / "summary.json", content)
        for name in dict.fromkeys(result["config_name"] for result in content["results"]):
            of_network = [r for r in content["results"] if r["config_name"] == name]
            plots.draw(out / name, of_network)
    summary.print_tables(content)
    return content


def _run(cell: Cell, data_dir: str | None, mesh: Any, said: set[str]) -> int:
    """Train a cell to its end, or draw what it lacks; return an exit code.

    It is 0, 2 where the cell could not begin or another process works in its folder, or 1 where it
    failed. What was ``said`` of another cell is not said again.
    """
    import jax

    from experiments.train import __main__ as train

    failure = files.read_json(cell.folder / "failed.json")
    if failure:
        print(
            f"error: {cell.name}: {failure.get('error', 'it failed')} (move {cell.folder} away "
            "to try again)",
            file=sys.stderr,
        )
        return 1
    print(f"{cell.name} in {cell.folder}", flush=True)
    try:
        devices.check(mesh, cell.config.seeds, cell.config.batch_size)
        train.run(cell.config, cell.folder, True, data_dir, mesh=mesh)
    except UserError as error:
        if str(error) not in said:
            print(f"error: {cell.name}: {error}", file=sys.stderr)
        said.add(str(error))
        began = configs.holds_run(cell.folder) and not isinstance(error, folders.InUse)
        return 1 if began else 2
    except jax.errors.JaxRuntimeError as error:  # out of memory, for one
        print(f"error: {cell.name}: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    finally:
        jax.clear_caches()  # of programs that no other cell can use
    return 0


def _shown_in_help(argv: Sequence[str]) -> Any:
    """Return what the help shows as defaults: the values of the configs chosen, where alike."""
    rest = [argument for argument in argv if argument not in ("-h", "--help")]
    if len(rest) == len(argv):
        return _defaults(cells.DEFAULT_CONFIGS)
    return _defaults(_parser(_defaults(cells.DEFAULT_CONFIGS)).parse_known_args(rest)[0].configs)


def _defaults(names: Sequence[str]) -> Any:
    """Return what ``Config`` fields are by default with these configs, where they are alike."""
    every = [configs.replace(configs.load(name), cells.DEFAULTS) for name in names]
    shown: dict[str, Any] = {}
    for entry in dataclasses.fields(Config):
        first, *others = {getattr(one, entry.name) for one in every}
        shown[entry.name] = "the config's" if others else first
    return types.SimpleNamespace(**shown)


def _parser(shown: Any) -> cli.Parser:
    parser = cli.Parser(
        prog="python -m experiments.feedback", usage="%(prog)s [options]", description=__doc__
    )
    add = parser.add_argument
    add(
        "--configs",
        type=cli.several(cli.one_of("config", configs.names())),
        metavar="NAME[,NAME]",
        default=cells.DEFAULT_CONFIGS,
        help=f"networks and their data: {', '.join(configs.names())} (default: "
        f"{','.join(cells.DEFAULT_CONFIGS)})",
    )
    kind = cli.one_of("kind", cells.KINDS, FEEDBACK_ALIASES)
    add(
        "--kinds",
        type=cli.several(kind),
        metavar="NAME[,NAME]",
        default=cells.DEFAULT_KINDS,
        help=f"of feedback pathway: {', '.join(cells.KINDS)} (default: "
        f"{','.join(cells.DEFAULT_KINDS)})",
    )
    rule = cli.one_of("rule", RULES + CONTROL_RULES)
    add(
        "--rules",
        type=cli.several(rule),
        metavar="NAME[,NAME]",
        default=RULES,
        dest="rules_asked",
        help=f"{', '.join(RULES + CONTROL_RULES)} (default: {','.join(RULES)})",
    )
    add("--out", type=cli.path, default=OUT, metavar="DIR", help=f"default: {OUT}")
    cli.add_data_dir(parser)
    devices.add_mesh_option(parser)
    fields.add_options(parser, Config, shown, leave_out=NOT_OPTIONS)
    return parser


if __name__ == "__main__":
    cli.run(main)
