"""Let many networks learn a working-memory task: how many learn it, and how fast?

    python -m experiments.working_memory saccade                    # 1,000 networks, about a minute
    python -m experiments.working_memory vibrotactile --networks 200 --seed 1 --out runs/vibro
    python -m experiments.working_memory saccade --fixation-reward 0 --feedback kolen_pollack
    python -m experiments.working_memory saccade --grid             # a grid over beta and lambda
    python -m experiments.working_memory saccade --feedback tied,kolen_pollack  # both
    python -m experiments.working_memory saccade --rule recollect --set delay_steps=4
    python -m experiments.working_memory twelve_ax --leak 0.7,1     # hybrid AuGMEnT
    python -m experiments.working_memory --resume --out runs/vibro  # go on after a crash

TASK is saccade, match_to_category, probabilistic, vibrotactile, twelve_ax or reversal_bandit; the
networks are AuGMEnT's, or with --rule recollect RECOLLECT's. Every default is the published one of
the rule and the task. The output folder gets
config.json, summary.json, converged.png (networks that have learned, by trials), activity.png
(units through a trial of each type) and checkpoint.npz; a grid also gets grid.json and grid.png.
"""

import ast
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.common import cli, folders
from experiments.common.cli import UserError
from experiments.config import FEEDBACK_ALIASES
from experiments.working_memory import config as memory_config
from experiments.working_memory.config import MemoryConfig


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, sum up."""
    arguments = _parser().parse_args(argv)
    config, folder = _what_and_where(arguments)

    from experiments.working_memory import (
        run as memory_run,  # slow to import: not before the arguments are known good
    )

    with cli.resumable(folder):
        memory_run.run(config, folder, arguments.checkpoint_seconds)


def _what_and_where(arguments: Any) -> tuple[MemoryConfig, Path]:
    folder = arguments.out
    saved = memory_config.load(folder) if folder else None
    if arguments.resume and folder is None:
        raise UserError("--resume needs --out DIR, the folder of the run to go on with")
    if saved and not arguments.resume:
        raise UserError(
            f"{folder} holds another run: add --resume to go on with it, or choose another --out"
        )
    if arguments.resume and saved is None:
        print(f"{folder} holds no run yet: starting one", file=sys.stderr)
    if folder and not saved and folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is not a folder: choose another --out")
    if folder and not saved and folder.is_dir() and folders.visible(folder):
        raise UserError(f"{folder} holds files that are no run: choose another --out")

    given = _given(arguments)
    if saved:
        config = dataclasses.replace(saved, **given)
        if different := memory_config.difference(saved, config):
            raise UserError(
                f"{folder} was started with a different config ({different}): leave these "
                "options out to resume, or choose another --out"
            )
        return config, folder
    if "task" not in given:
        raise UserError(f"which task? one of {', '.join(memory_config.TASKS)}")
    if arguments.grid:
        given = {
            "networks": memory_config.GRID_NETWORKS,
            "learning_rates": memory_config.GRID_LEARNING_RATES,
            "tag_decays": memory_config.GRID_TAG_DECAYS,
        } | given
    config = memory_config.complete(given)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return config, folder or Path("runs") / f"{config.task}-{stamp}"


def _given(arguments: Any) -> dict[str, Any]:
    fields = {entry.name for entry in dataclasses.fields(MemoryConfig)}
    given = {k: v for k, v in vars(arguments).items() if k in fields and v is not None}
    parameters = dict(arguments.set or ())
    if arguments.fixation_reward is not None:
        parameters["fixation_reward"] = arguments.fixation_reward
    if arguments.curriculum:
        parameters["curriculum"] = True
    if "leak" in given:
        leaks = given["leak"]
        given["leak"] = leaks if len(leaks) > 1 else leaks[0]
    if parameters:
        given["task_parameters"] = dict(sorted(parameters.items()))
    return given


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m experiments.working_memory", description=__doc__)
    whole = 2**31 - 1
    add = parser.add_argument
    add(
        "task",
        nargs="?",
        metavar="TASK",
        type=cli.one_of("task", memory_config.TASKS),
        help=f"{', '.join(memory_config.TASKS)}",
    )
    add(
        "--networks",
        type=cli.number(int, 1, 1_000_000),
        metavar="N",
        help="default: "
        + ", ".join(f"{task} {n}" for task, n in memory_config.DEFAULT_NETWORKS.items())
        + f"; RECOLLECT {memory_config.RECOLLECT_NETWORKS}; in a grid, for each setting "
        f"(default {memory_config.GRID_NETWORKS})",
    )
    add(
        "--max-trials",
        type=cli.number(int, 1, 1_000_000_000),
        metavar="T",
        help="training trials after which a network gives up; default: the task's own",
    )
    add("--seed", type=cli.number(int, 0, whole), metavar="S", help="default 0")
    add(
        "--fixation-reward",
        type=cli.number(float, 0, 1e6),
        metavar="R",
        help="for reaching fixation; default 0.2, 0 for none",
    )
    add("--out", type=Path, metavar="DIR", help="default: runs/TASK-TIME")
    add("--resume", action="store_true", help="go on with the run in --out")
    add(
        "--checkpoint-seconds",
        type=cli.number(float, 0, 1e9),
        default=30.0,
        metavar="SECONDS",
        help="time between checkpoints; default 30",
    )
    group = parser.add_argument_group("the networks")
    add = group.add_argument
    add(
        "--rule",
        type=cli.one_of("rule", memory_config.RULES),
        metavar="RULE",
        help="augment (default) or recollect",
    )
    add(
        "--feedback",
        dest="feedbacks",
        type=cli.several(cli.one_of("feedback", memory_config.FEEDBACKS, FEEDBACK_ALIASES)),
        metavar="KIND[,KIND]",
        help="tied (default), kolen_pollack, or both",
    )
    rates = cli.several(cli.number(float, 0, 100))
    fractions = cli.several(cli.number(float, 0, 1))
    add(
        "--learning-rate",
        dest="learning_rates",
        type=rates,
        metavar="B[,B]",
        help="default 0.15; RECOLLECT 0.1",
    )
    add(
        "--tag-decay",
        dest="tag_decays",
        type=fractions,
        metavar="L[,L]",
        help="default 0.2; 12AX 0.15, RECOLLECT 0.4",
    )
    add(
        "--grid",
        action="store_true",
        help="several learning rates and tag decays at once: "
        f"{', '.join(map(str, memory_config.GRID_LEARNING_RATES))} by "
        f"{', '.join(map(str, memory_config.GRID_TAG_DECAYS))} unless given",
    )
    add("--exploration", type=cli.number(float, 0, 1), metavar="E", help="default 0.025")
    add(
        "--policy",
        type=cli.one_of("policy", memory_config.POLICIES),
        metavar="POLICY",
        help="how to explore: max_boltzmann (default), or epsilon_greedy (uniformly; RECOLLECT's)",
    )
    add(
        "--leak",
        type=cli.several(cli.number(float, 0, 1)),
        metavar="K[,K]",
        help="memory kept each step; default 1: all. Several: for equal shares of the units",
    )
    add(
        "--regular",
        type=cli.number(int, 1, 10_000),
        metavar="N",
        help="regular units; default 3, 12AX 10",
    )
    add(
        "--memory",
        type=cli.number(int, 1, 10_000),
        metavar="N",
        help="memory units; default 4, 12AX 20, RECOLLECT 7",
    )
    add(
        "--slope",
        type=cli.one_of("slope", memory_config.SLOPES),
        metavar="KIND",
        help="of RECOLLECT's derivatives: published (default: without the factor 2) or corrected",
    )
    add(
        "--end-input",
        action="store_const",
        const=True,
        help="RECOLLECT with an input that tells that a trial has ended",
    )
    add(
        "--substeps",
        type=cli.number(int, 1, 1000),
        metavar="N",
        help="a variant: learn in N steps of T/N while each action lasts for T; default 1, AuGMEnT",
    )
    group = parser.add_argument_group("the task")
    group.add_argument(
        "--retest-after",
        type=cli.number(int, 1, whole),
        metavar="T",
        help="training trials from a failed frozen test to the next; default: the task's own",
    )
    group.add_argument(
        "--curriculum",
        action="store_true",
        help="saccade: a delay that starts at a fifth of delay_steps and doubles",
    )
    group.add_argument(
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
