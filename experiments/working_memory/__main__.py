"""Let many networks learn a working-memory task: how many learn it, and how fast?

    python -m experiments.working_memory saccade                    # 1,000 networks, about a minute
    python -m experiments.working_memory vibrotactile --networks 200 --seed 1 --out runs/vibro
    python -m experiments.working_memory saccade --fixation-reward 0 --feedback kolen_pollack
    python -m experiments.working_memory saccade --grid             # a grid over beta and lambda
    python -m experiments.working_memory saccade --feedback tied,kolen_pollack  # both
    python -m experiments.working_memory saccade --rule recollect --set delay_steps=4
    python -m experiments.working_memory twelve_ax --leak 0.7,1     # hybrid AuGMEnT
    python -m experiments.working_memory match_to_sample --rule workmate
    python -m experiments.working_memory --resume --out runs/vibro  # resume after a crash

TASK is saccade, match_to_category, probabilistic, vibrotactile, twelve_ax, reversal_bandit,
match_to_sample or twelve_ax_levels; the networks are AuGMEnT's, or with --rule recollect
RECOLLECT's, with --rule workmate WorkMATe's. Parameters of rules and tasks default to the published
ones or those of the authors' code; the number of networks, limits of trials that no paper gives,
and the reversal bandit are ours. The output folder gets
config.json, summary.json, converged.png (networks that have learned, by trials), activity.png
(units through a trial of each type) and checkpoint.msgpack; a task with shaping levels also gets
levels.png (trials at each), several settings grid.json, several learning rates or tag decays
grid.png. A notebook reads the trained networks with
experiments.working_memory.trained.load(DIR).
"""

import ast
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common import cli, fields, folders
from experiments.common.cli import UserError
from experiments.working_memory import config as memory_config
from experiments.working_memory.config import MemoryConfig


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, sum up."""
    arguments = _parser().parse_args(argv)
    config, folder = _what_and_where(arguments)

    from experiments.working_memory import run  # slow: not before the arguments are known good

    with cli.resumable("working_memory", folder):
        run.run(config, folder, arguments.resume, arguments.checkpoint_seconds)


def _what_and_where(arguments: Any) -> tuple[MemoryConfig, Path]:
    folder = arguments.out
    folders.check_resume(arguments.resume, folder)
    there = folder is not None and folders.check(folder, (memory_config.FILE,), arguments.resume)
    saved = memory_config.load(folder) if there else None
    given = _given(arguments)
    if arguments.resume and saved is None:
        folders.start_instead(folder, (memory_config.FILE,), "task" in given)
    if arguments.grid:
        given = {
            "networks": memory_config.GRID_NETWORKS,
            "learning_rates": memory_config.GRID_LEARNING_RATES,
            "tag_decays": memory_config.GRID_TAG_DECAYS,
        } | given
    if saved:
        if "task_parameters" in given:  # a task's own are there, too
            given["task_parameters"] = dict(
                sorted((saved.task_parameters | given["task_parameters"]).items())
            )
        config = dataclasses.replace(saved, **given)
        if names := fields.difference(saved, config):
            raise folders.other_config(folder, fields.told(saved, config, names))
        return config, folder
    if "task" not in given:
        raise UserError(f"which task? one of {', '.join(memory_config.TASKS)}")
    config = memory_config.complete(given)
    return config, folder or folders.default(config.task)


def _given(arguments: Any) -> dict[str, Any]:
    given = fields.given(MemoryConfig, arguments)
    parameters = {}
    if arguments.fixation_reward is not None:
        parameters["fixation_reward"] = arguments.fixation_reward
    if arguments.curriculum:
        parameters["curriculum"] = True
    if "leak" in given:
        leaks = given["leak"]
        given["leak"] = leaks if len(leaks) > 1 else leaks[0]
    for name, value in arguments.set or ():
        if name in parameters:
            raise UserError(f"{name} is given twice, by --set {name}= and by --set or its option")
        parameters[name] = value
    if parameters:
        given["task_parameters"] = dict(sorted(parameters.items()))
    return given


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m experiments.working_memory", description=__doc__)
    parser.add_argument(
        "task",
        nargs="?",
        metavar="TASK",
        type=cli.one_of("task", memory_config.TASKS),
        help=f"{', '.join(memory_config.TASKS)}",
    )
    folders.add_options(parser, "TASK", resume=True)
    parser.add_argument(
        "--checkpoint-seconds",
        type=cli.number(float, 0, 1e9),
        default=30.0,
        metavar="SECONDS",
        help="time between checkpoints (default: 30)",
    )
    groups = fields.add_options(parser, MemoryConfig, MemoryConfig("saccade", 1000))
    parser.add_argument(
        "--grid",
        action="store_true",
        help="several learning rates and tag decays at once: "
        f"{fields.shown(memory_config.GRID_LEARNING_RATES)} by "
        f"{fields.shown(memory_config.GRID_TAG_DECAYS)} unless given",
    )
    add = groups["the task"].add_argument
    add(
        "--fixation-reward",
        type=cli.number(float, 0, 1e6),
        metavar="R",
        help="for reaching fixation, 0 for none (default: 0.2)",
    )
    add(
        "--curriculum",
        action="store_true",
        help="saccade: a delay that starts at a fifth of delay_steps and doubles",
    )
    add(
        "--set",
        type=_assignment,
        action="append",
        metavar="NAME=VALUE",
        help="a parameter of the task, e.g. delay_steps=4; may be repeated",
    )
    return parser


def _assignment(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise cli.argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


if __name__ == "__main__":
    cli.run(main)
