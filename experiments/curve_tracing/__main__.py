"""Let recurrent networks learn to trace curves with RELEARNN: in how many trials?

    python -m experiments.curve_tracing                      # 5 networks, curves of 2 to 9 pixels
    python -m experiments.curve_tracing --max-length 7 --networks 10 --seed 1 --out runs/curves
    python -m experiments.curve_tracing --unshared           # each synapse for itself; slower
    python -m experiments.curve_tracing --resume --out runs/curves    # resume after a crash

Every network has a curriculum of its own: it begins with a red and a blue pixel alone, and curves
become one pixel longer whenever 85 % of a frozen test's trials are correct. The output folder gets
config.json, summary.json, learning.png (lengths learned, by trials), generalization.png (frozen
tests of longer curves), activity.png (activity spreading along the target curve) and
checkpoint.npz. A notebook reads the trained networks with
experiments.curve_tracing.trained.load(DIR).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common import cli, fields, folders
from experiments.common.cli import UserError
from experiments.curve_tracing import config as curve_config
from experiments.curve_tracing.config import CurveConfig


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, sum up."""
    arguments = _parser().parse_args(argv)
    config, folder = _what_and_where(arguments)

    from experiments.curve_tracing import run  # slow to import: not before the arguments are good

    with cli.resumable("curve_tracing", folder):
        run.run(config, folder, arguments.resume)


def _what_and_where(arguments: Any) -> tuple[CurveConfig, Path]:
    folder, resume = arguments.out, arguments.resume
    folders.check_resume(resume, folder)
    given = fields.given(CurveConfig, arguments)
    if folder is not None and folders.check(folder, (curve_config.FILE,), resume):
        saved = curve_config.load(folder)
        config = dataclasses.replace(saved, **given)
        if names := fields.difference(saved, config):
            raise folders.other_config(folder, fields.told(saved, config, names))
        return config, folder
    if resume:
        folders.start_instead(folder, (curve_config.FILE,), bool(given))
    for name in ("neighbor_rate", "output_rate"):
        if name in given and not given.get("shared", True):
            option = name.replace("_", "-")
            raise UserError(f"--{option} does nothing with --unshared, without shared weights")
    return CurveConfig(**given), folder or folders.default("curve_tracing")


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m experiments.curve_tracing", description=__doc__)
    fields.add_options(parser, CurveConfig, CurveConfig())
    folders.add_options(parser, "curve_tracing", resume=True)
    return parser


if __name__ == "__main__":
    cli.run(main)
