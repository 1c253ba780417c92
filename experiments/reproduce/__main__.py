"""Run the papers' matrix, data set × network × rule, within a budget, and go on where it stopped.

    python -m experiments.reproduce --plan                        # what would run, and how long
    python -m experiments.reproduce --seeds 3 --budget 60         # an hour of it, then an hour more
    python -m experiments.reproduce --cells mnist_dense,mnist_conv --protocol paper

Each cell, a config under a protocol, has a folder of its own, DIR/CONFIG/PROTOCOL, as
``experiments.train`` writes it. What is done is left alone; what a kill or the end of the budget
broke off goes on and ends as if nothing had happened, on a CPU in the same bits. Of the budget
every unfinished cell gets an equal share of what is left, and of its share every rule that is not
done; what some do not need goes to the others. ``python -m experiments.report`` makes the tables.
"""

import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import config as configs
from experiments.common import cli, files
from experiments.common import devices as distributed
from experiments.common.cli import UserError
from experiments.reproduce import plan as reproduce_plan
from experiments.reproduce.plan import Work, duration
from experiments.reproduce.published import CELLS
from experiments.train import __main__ as train
from experiments.train import folder as run_folder

HERE = Path(__file__).resolve().parents[1]


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, plan, run."""
    began = time.monotonic()
    arguments = _parser().parse_args(argv)
    budget = None if arguments.budget is None else 60 * arguments.budget
    mesh = distributed.arrange(arguments.mesh)  # before planning wakes the devices
    works = _plan(arguments)
    print(reproduce_plan.text(works, budget), flush=True)
    if arguments.plan:
        return
    try:
        end = None if budget is None else began + budget
        works = _rounds(works, arguments.data_dir, end, mesh)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    unfinished = [work for work in works if work.open]
    done = sum(work.state == "done" for work in works)
    print(f"{done} of {len(works)} cells are done, {len(unfinished)} unfinished"
          + ("; the same command goes on with them" if unfinished else "")
          + ". Tables: python -m experiments.report")  # fmt: skip
    if any(work.state == "failed" for work in works):
        sys.exit(1)


def _plan(arguments: Any) -> list[Work]:
    works = []
    times_file = arguments.out / "step_times.json"
    times = run_folder.read_json(times_file) or {}
    protocols = ("paper", "clean") if arguments.protocol == "both" else (arguments.protocol,)
    for name in arguments.cells or CELLS:
        base = configs.load(name)
        for protocol in protocols:
            changes = {"protocol": protocol}
            if arguments.seeds is not None:
                changes["seeds"] = arguments.seeds
            folder = arguments.out / base.name / protocol
            config = configs.replace(base, changes)
            work = reproduce_plan.look(config, folder, arguments.seeds is not None)
            if work.open:
                print(f"looking at {name}, {protocol} ...", file=sys.stderr, flush=True)
                work = reproduce_plan.timed(work, arguments.data_dir, times)
            works.append(work)
    if times:
        with contextlib.suppress(OSError):  # kept only so that the next call starts at once
            arguments.out.mkdir(parents=True, exist_ok=True)
            files.write_json(times_file, times)
    return works


def _rounds(
    works: list[Work], data_dir: str | None, end: float | None, mesh: Any = None
) -> list[Work]:
    """Give every open cell its share, again and again, until all are done or time is up."""
    works, waited = list(works), set()
    while True:
        turn = [i for i, work in enumerate(works) if work.open]
        if end is not None:
            turn = _fitting(works, turn, end - time.monotonic())
            waited |= {i for i, work in enumerate(works) if work.open} - set(turn)
        progress = False
        for place, i in enumerate(turn):
            now = time.monotonic()
            if end is not None and now >= end:
                break
            deadline = None if end is None else now + (end - now) / (len(turn) - place)
            before = works[i]
            works[i] = _run(before, data_dir, deadline, mesh)
            waited.discard(i)
            progress |= works[i].epochs_done != before.epochs_done or not works[i].open
        if not progress:
            break
    for i in sorted(waited):
        print(f"{_name(works[i])}: no time for it now; an epoch of a rule takes about "
              f"{duration(works[i].seconds_at_least)}")  # fmt: skip
    return works


def _fitting(works: list[Work], turn: list[int], left: float) -> list[int]:
    """Return those of ``turn`` that can share the seconds ``left``, each for an epoch at least."""
    while turn:
        most = max(turn, key=lambda i: (works[i].seconds_at_least, i))
        if works[most].seconds_at_least <= left / len(turn):
            break
        turn = [i for i in turn if i != most]
    return turn


def _run(work: Work, data_dir: str | None, deadline: float | None, mesh: Any = None) -> Work:
    import jax

    print(f"{_name(work)} in {work.folder}", flush=True)
    until = {} if deadline is None else {"deadline": deadline}
    try:
        distributed.check(mesh, work.config)
        train.run(work.config, work.folder, True, data_dir, mesh=mesh, **until)
    except (UserError, jax.errors.JaxRuntimeError) as error:
        reason = str(error).splitlines()[0]
        print(f"error: {_name(work)}: {reason}", file=sys.stderr)
        return work._replace(state="failed", note=reason)
    jax.clear_caches()  # of programs that no other cell can use
    after = reproduce_plan.look(work.config, work.folder, seeds_asked=False)
    return after._replace(
        epoch_seconds=work.epoch_seconds, compiling_seconds=work.compiling_seconds
    )


def _name(work: Work) -> str:
    seeds = f"{work.config.seeds} seed{'s' * (work.config.seeds > 1)}"
    return f"{work.config.name}, {work.config.protocol} protocol, {seeds}"


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m experiments.reproduce", description=__doc__)
    add = parser.add_argument
    add(
        "--cells",
        type=cli.several(str),
        metavar="A,B",
        help=f"configs; default: {', '.join(CELLS)}",
    )
    add("--seeds", type=cli.number(int, 1, 10**6), metavar="N",
        help="of a cell that is not begun yet (default: its config's)")  # fmt: skip
    add("--budget", type=cli.number(float, 0, 1e7, open_low=True), metavar="MINUTES",
        help="stop after so long, planning included (default: never)")  # fmt: skip
    add("--protocol", type=cli.one_of("protocol", ("paper", "clean", "both")), default="both",
        metavar="P", help="paper, clean or both (default)")  # fmt: skip
    add("--out", type=Path, default=HERE / "results" / "cells", metavar="DIR",
        help="default: experiments/results/cells")  # fmt: skip
    distributed.add_mesh_option(parser)
    add("--data-dir", metavar="DIR", help="default: $TFDS_DATA_DIR")
    add("--plan", action="store_true", help="print the plan and stop")
    return parser


if __name__ == "__main__":
    cli.run(main)
