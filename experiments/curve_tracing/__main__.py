"""Let recurrent networks learn to trace curves with RELEARNN: in how many trials?

    python -m experiments.curve_tracing                      # 5 networks, curves of 2 to 9 pixels
    python -m experiments.curve_tracing --max-length 7 --networks 10 --seed 1 --out runs/curves
    python -m experiments.curve_tracing --unshared           # each synapse for itself; slower
    python -m experiments.curve_tracing --resume --out runs/curves    # go on after a crash

Every network has a curriculum of its own: it begins with a red and a blue pixel alone, and curves
become one pixel longer whenever 85 % of a frozen test's trials are right. The output folder gets
config.json, summary.json, learning.png (lengths learned, by trials), generalization.png (frozen
tests of longer curves), activity.png (activity spreading along the target curve) and
checkpoint.npz.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common import cli, folders
from experiments.common.cli import UserError
from experiments.config import FEEDBACK_ALIASES
from experiments.curve_tracing import config as curve_config
from experiments.curve_tracing.config import CurveConfig


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, sum up."""
    arguments = _parser().parse_args(argv)
    config, folder = _what_and_where(arguments)

    from experiments.curve_tracing import run  # slow to import: not before the arguments are good

    with cli.resumable(folder):
        run.run(config, folder)


def _what_and_where(arguments: Any) -> tuple[CurveConfig, Path]:
    folder = arguments.out
    saved = curve_config.load(folder) if folder else None
    fields = {entry.name for entry in dataclasses.fields(CurveConfig)}
    given = {k: v for k, v in vars(arguments).items() if k in fields and v is not None}
    if arguments.resume and folder is None:
        raise UserError("--resume needs --out DIR, the folder of the run to go on with")
    if saved and not arguments.resume:
        raise UserError(
            f"{folder} holds another run: add --resume to go on with it, or choose another --out"
        )
    if saved:
        config = dataclasses.replace(saved, **given)
        if different := curve_config.difference(saved, config):
            raise UserError(
                f"{folder} was started with a different config ({different}): leave these "
                "options out to resume, or choose another --out"
            )
        return config, folder
    if arguments.resume:
        print(f"{folder} holds no run yet: starting one", file=sys.stderr)
    if folder and folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is not a folder: choose another --out")
    if folder and folder.is_dir() and folders.visible(folder):
        raise UserError(f"{folder} holds files that are no run: choose another --out")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return CurveConfig(**given), folder or Path("runs") / f"curve_tracing-{stamp}"


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m experiments.curve_tracing", description=__doc__)
    default = CurveConfig()
    add = parser.add_argument

    def number(name: str, kind: type, low: float, high: float, text: str, metavar: str) -> None:
        value = getattr(default, name)
        add(
            f"--{name.replace('_', '-')}",
            type=cli.number(kind, low, high),
            metavar=metavar,
            help=f"{text}; default {value:,}" if kind is int else f"{text}; default {value:g}",
        )

    number("networks", int, 1, 10_000, "how many", "N")
    number("seed", int, 0, 2**31 - 1, "all randomness follows from it", "S")
    number("max_length", int, 3, 1000, "pixels of the longest curves to learn", "N")
    number("max_trials", int, 1, 10**9, "training trials after which a network gives up", "T")
    number("grid", int, 5, 200, "pixels along each side", "N")
    add(
        "--unshared",
        dest="shared",
        action="store_const",
        const=False,
        help="each synapse for itself; default: one weight for all pixels",
    )
    add(
        "--feedback",
        type=cli.one_of("feedback", curve_config.FEEDBACKS, FEEDBACK_ALIASES),
        metavar="KIND",
        help=f"{', '.join(curve_config.FEEDBACKS)}; default {default.feedback}",
    )
    number("learning_rate", float, 0, 100, "beta", "B")
    number("exploration", float, 0, 1, "epsilon of the max-Boltzmann policy", "E")
    number("steps", int, 1, 100_000, "most steps of the activity", "N")
    number("sweeps", int, 1, 100_000, "most sweeps of the accessory network", "N")
    number("test_every", int, 1, 10**9, "training trials between two frozen tests", "T")
    number("test_trials", int, 1, 10**6, "trials of a frozen test", "T")
    number(
        "final_accuracy", float, 0, 1, "of the frozen test at the last length that ends it all", "A"
    )
    add("--out", type=cli.path, metavar="DIR", help="default: runs/curve_tracing-TIME")
    add("--resume", action="store_true", help="go on with the run in --out")
    return parser


if __name__ == "__main__":
    cli.run(main)
