"""Run the papers' matrix, data set × network × rule, within a budget; resume where it stopped.

    python -m experiments.reproduce --plan                        # what would run, and how long
    python -m experiments.reproduce --seeds 3 --budget 60         # an hour of it, then an hour more
    python -m experiments.reproduce --cells mnist_dense,mnist_conv --protocol paper

Each cell, a config under a protocol, has a folder of its own, DIR/CONFIG/PROTOCOL, as
``experiments.train`` writes it. What is done is left alone; what a kill or the end of the budget
broke off continues and ends as if nothing had happened, on a CPU in the same bits. Of the budget
every unfinished cell gets an equal share of what is left, and of its share every rule that is not
done; what some do not need goes to the others. ``python -m experiments.report --results runs``
makes the tables, runs/cells/README.md.
"""

import math
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import config as configs
from experiments.common import cli, devices, display, files, folders, provenance
from experiments.common.cli import UserError
from experiments.config import Config
from experiments.reproduce import plan, stored_times
from experiments.reproduce.plan import Work, duration
from experiments.reproduce.published import CELLS
from experiments.reproduce.stored_times import Stored
from experiments.train import __main__ as train
from experiments.train import folder as run_folder

OUT = Path("runs") / "cells"
TIMES = "step_times.json"
IN_USE = "another process is at work in its folder"


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, plan, run."""
    began = time.monotonic()
    arguments = _parser().parse_args(argv)
    budget = None if arguments.budget is None else 60 * arguments.budget
    bases = [configs.load(name) for name in arguments.cells or CELLS]
    folders.check_only(arguments.out, "README.md", "learning_curves.png", TIMES)
    mesh = devices.arrange(arguments.mesh)  # before planning wakes the devices
    stored = stored_times.read()
    if arguments.plan:
        works = [_known(work, arguments, stored) for work in _inspect(arguments, bases)]
        print(plan.text(works, budget))
        if missing := _missing(works, arguments.data_dir):
            print("\n" + plan.without_data(missing, _data_dir(arguments.data_dir)))
        print(f"\n{plan.whole_matrix(stored)}", flush=True)
        return
    says = cli.interrupted_says("the same command continues from here")
    with says, folders.locked(arguments.out):
        works = _inspect(arguments, bases)
        works = _with_measured_times([_known(work, arguments, stored) for work in works], arguments)
        print(plan.text(works, budget), flush=True)
        end = None if budget is None else began + budget
        works = _rounds(works, arguments.data_dir, end, mesh)
        for work in works:
            if work.state == "done" and run_folder.missing_pictures(work.folder, work.config):
                train.run(work.config, work.folder, resume=True)
    _tell(works, arguments.out)


def _tell(works: list[Work], out: Path) -> None:
    unfinished = [work for work in works if work.open]
    done = sum(work.state == "done" for work in works)
    print(
        f"{done} of {len(works)} cells are done, {len(unfinished)} unfinished"
        + ("; the same command continues them" if unfinished else "")
        + f". {_tables(out)}"
    )
    if any(work.note == IN_USE for work in works):
        sys.exit(2)
    if any(work.state == "failed" for work in works):
        sys.exit(1)


def _tables(out: Path) -> str:
    """Say how to make the tables: the report finds cells by the name of their folder."""
    rename = "" if out.name == OUT.name else f"rename {out} to {OUT.name}, then "
    return f"Tables: {rename}python -m experiments.report --results {shlex.quote(str(out.parent))}"


def _inspect(arguments: Any, bases: list[Config]) -> list[Work]:
    """Say where every cell stands."""
    protocols = ("paper", "clean") if arguments.protocol == "both" else (arguments.protocol,)
    works = []
    for base in bases:
        for protocol in protocols:
            changes = {"protocol": protocol}
            if arguments.seeds is not None:
                changes["seeds"] = arguments.seeds
            config = configs.replace(base, changes)
            folder = arguments.out / base.name / protocol
            works.append(plan.inspect(config, folder, arguments.seeds is not None))
    return works


def _known(work: Work, arguments: Any, stored: dict[tuple[str, int], Stored]) -> Work:
    """Add what an epoch takes, and in a plan alone measure what is not stored."""
    if not work.open:
        return work
    if not arguments.measure:
        work = plan.with_known_time(work, stored)
    if arguments.plan and not work.epoch_seconds:
        return plan.with_measured_time(work, arguments.data_dir, {})
    # Of another device only the plan's figures are of use.
    return (
        work
        if arguments.plan or work.stored_on in ("", provenance.device())
        else (work._replace(epoch_seconds=0.0, stored_on=""))
    )


def _data_dir(data_dir: Path | None) -> Path:
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def _missing(works: list[Work], data_dir: Path | None) -> list[str]:
    """Return the sets of TFDS of open cells that are not here, in the order of the cells."""
    names = dict.fromkeys(work.config.dataset.partition(":")[0] for work in works if work.open)
    root = _data_dir(data_dir).expanduser()
    return [
        name
        for name in names
        if name != "digits" and not name.endswith(".npz") and not (root / name).is_dir()
    ]


def _with_measured_times(works: list[Work], arguments: Any) -> list[Work]:
    """Leave out what has no data, and measure epochs whose time is not known."""
    times_file = arguments.out / TIMES
    times = _times_so_far(times_file)
    before = dict(times)
    found = []
    for work in works:
        if work.open:
            print(
                f"inspecting {work.config.name}, {work.config.protocol} ...",
                file=sys.stderr,
                flush=True,
            )
            work = plan.with_measured_time(work, arguments.data_dir, times)
        found.append(work)
    if times != before:
        files.write_json(times_file, times)
    return found


def _times_so_far(path: Path) -> dict[str, list[float]]:
    try:
        content = files.read_json(path) or {}
    except UserError:
        return {}  # measured again
    return {
        key: value
        for key, value in content.items()
        if isinstance(value, list)
        and len(value) == 2
        and all(isinstance(seconds, float) and seconds >= 0 for seconds in value)
    }


def _rounds(
    works: list[Work], data_dir: str | None, end: float | None, mesh: Any = None
) -> list[Work]:
    """Give every open cell its share, again and again, until all are done or time is up."""
    works, waited = list(works), set()
    while True:
        open_cells = [i for i, work in enumerate(works) if work.open]
        if end is not None:
            open_cells = _fitting(works, open_cells, end - time.monotonic())
            waited |= {i for i, work in enumerate(works) if work.open} - set(open_cells)
        progress = False
        for place, i in enumerate(open_cells):
            now = time.monotonic()
            if end is not None and now >= end:
                break
            deadline = None if end is None else now + (end - now) / (len(open_cells) - place)
            before = works[i]
            works[i] = _run(before, data_dir, deadline, mesh)
            waited.discard(i)
            progress |= works[i].epochs_done != before.epochs_done or not works[i].open
        if not progress:
            break
    for i in sorted(waited):
        print(
            f"{_name(works[i])}: no time for it now; to compile and an epoch of a rule take about "
            f"{duration(works[i].seconds_at_least)}"
        )
    return works


def _fitting(works: list[Work], open_cells: list[int], left: float) -> list[int]:
    """Return the ``open_cells`` that can share the seconds ``left``, an epoch each at least."""
    while open_cells:
        most = max(open_cells, key=lambda i: (works[i].seconds_at_least, i))
        if works[most].seconds_at_least <= left / len(open_cells):
            break
        open_cells = [i for i in open_cells if i != most]
    return open_cells


def _run(work: Work, data_dir: str | None, deadline: float | None, mesh: Any = None) -> Work:
    import jax

    print(f"{_name(work)} in {work.folder}", flush=True)
    until = math.inf if deadline is None else deadline
    try:
        devices.check(mesh, work.config.seeds, work.config.batch_size)
        train.run(work.config, work.folder, True, data_dir, until, mesh)
    except folders.InUse as error:
        print(f"error: {_name(work)}: {error}", file=sys.stderr)
        return work._replace(state="failed", note=IN_USE)
    except (UserError, jax.errors.JaxRuntimeError) as error:
        reason = str(error).splitlines()[0]
        print(f"error: {_name(work)}: {reason}", file=sys.stderr)
        return work._replace(state="failed", note=reason)
    jax.clear_caches()  # of programs that no other cell can use
    after = plan.inspect(work.config, work.folder, seeds_asked=False)
    return after._replace(
        epoch_seconds=work.epoch_seconds, compiling_seconds=work.compiling_seconds
    )


def _name(work: Work) -> str:
    seeds = display.counted(work.config.seeds, "seed")
    return f"{work.config.name}, {work.config.protocol} protocol, {seeds}"


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m experiments.reproduce", description=__doc__)
    add = parser.add_argument
    add(
        "--cells",
        type=cli.several(str),
        metavar="NAME[,NAME]",
        help=f"configs, or paths of such files; default: {', '.join(CELLS)}",
    )
    add(
        "--seeds",
        type=cli.number(int, 1, 10**6),
        metavar="N",
        help="of a cell that is not begun yet (default: its config's)",
    )
    add(
        "--budget",
        type=cli.number(float, 0, 1e7, open_low=True),
        metavar="MINUTES",
        help="stop after so long, planning included (default: never)",
    )
    add(
        "--protocol",
        type=cli.one_of("protocol", ("paper", "clean", "both")),
        default="both",
        metavar="P",
        help="paper, clean or both (default)",
    )
    add("--out", type=cli.path, default=OUT, metavar="DIR", help=f"default: {OUT}")
    devices.add_mesh_option(parser)
    cli.add_data_dir(parser)
    add("--plan", action="store_true", help="print the plan, from stored times, and stop")
    add(
        "--measure",
        action="store_true",
        help="measure a few steps here rather than trust stored times",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
