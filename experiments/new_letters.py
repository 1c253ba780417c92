"""Do trained networks compare letters they have never seen? Tests of match-to-sample runs.

    python -m experiments.new_letters runs/RUN
    python -m experiments.new_letters runs/ONE runs/ANOTHER --out DIR

The networks of runs of ``working_memory match_to_sample`` that have learned all sets are tested
frozen, without learning and exploration, on the set they learned last and on sets of letters that
were in none. A set has nine pairs of letters, three of which are the same; the accuracy is the mean
of that of the same and of the different pairs, so that 50 % is chance for a network that always
gives the same response. A table is printed; DIR gets new_letters.json and a picture.
"""

import contextlib
import dataclasses
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common import cli, console, files, folders, provenance
from experiments.common.cli import UserError
from experiments.common.significance import mean_sd
from experiments.working_memory import plots

FILE = "new_letters.json"
TASK = "match_to_sample"
OF_A_SET = 3
SAME = (0, 4, 8)
"""The trials of a set, of nine, in which the probe is the sample."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, test the networks of every run, print a table."""
    parser = cli.Parser(prog="python -m experiments.new_letters", description=__doc__)
    parser.add_argument("runs", nargs="+", type=cli.path, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--out",
        type=cli.path,
        metavar="DIR",
        help="where accuracies and picture go (default: they are only printed)",
    )
    arguments = parser.parse_args(argv)
    for folder in arguments.runs:  # before minutes of work on others
        check(folder)
    with contextlib.ExitStack() as stack:
        if arguments.out:
            stack.enter_context(cli.keeping(arguments.out / FILE))
            stack.enter_context(folders.claimed(arguments.out))
        environment = provenance.environment()
        lines: list[dict[str, Any]] = []
        for folder in arguments.runs:
            lines.append(measure(folder))
            if arguments.out:
                content = {**environment, "runs": lines}
                files.write_json(arguments.out / FILE, content)
                plots.new_letters(arguments.out / "new_letters.png", lines)
    headings = ("run", "networks", *HEADINGS)
    console.table(
        "accuracy %, mean (sd)", headings, [[line["run"], *cells(line)] for line in lines]
    )
    if arguments.out:
        print(f"everything is in {arguments.out}")


def check(folder: Path) -> None:
    """Raise ``UserError`` unless ``folder`` holds a run of the task, and letters are left."""
    from experiments.working_memory import config as memory_config
    from experiments.working_memory import run

    folders.check_trained(folder, memory_config.FILE, run.CHECKPOINT, run.OLD_CHECKPOINT)
    config = memory_config.load(folder)
    if config.task != TASK:
        raise UserError(f"{folder} is a run of {config.task}, not of {TASK}")
    if len(config.settings) > 1:
        raise UserError(f"{folder} is a grid of settings: give runs of one setting each")
    params = run.make_setup(config).params
    new_sets(params.letters, params.sets)


def new_sets(letters: str, sets: int) -> list[str]:
    """Return sets of letters that are in none of the first ``sets``, which have each at least once.

    Raises:
      UserError: fewer than three letters are left.

    >>> new_sets("TEKLZCYGQXDVIAUMSN", 6)
    ['BFH', 'JOP', 'RWB']
    """
    seen = letters[: OF_A_SET * sets]
    left = [letter for letter in string.ascii_uppercase if letter not in seen]
    if len(left) < OF_A_SET:
        raise UserError(f"of the letters only {', '.join(left)} are left: learn fewer sets")
    around = left + left[: -len(left) % OF_A_SET]
    return ["".join(around[i : i + OF_A_SET]) for i in range(0, len(around), OF_A_SET)]


def measure(folder: Path) -> dict[str, Any]:
    """Test the networks of a run that have learned all sets; return a JSON-ready line.

    Of each set, the last learned first, the share of correct trials by network, of the ``same``
    and of the ``different`` pairs.
    """
    from experiments.working_memory import config as memory_config
    from experiments.working_memory import trained
    from qagrel_jax.population import Setup

    setup, networks = trained.load(folder)
    trials = networks.trials_to_convergence()
    learned = [number for number, t in enumerate(trials) if t is not None]
    letters, sets = setup.params.letters, setup.params.sets
    earlier, last = letters[: OF_A_SET * (sets - 1)], letters[OF_A_SET * (sets - 1) :][:OF_A_SET]
    found = {}
    for tested in (last, *new_sets(letters, sets)):
        params = dataclasses.replace(setup.params, letters=earlier + tested)
        other = Setup(setup.task, params, setup.config, setup.criterion)
        correct = np.array([_correct(other, networks.network(n).learner) for n in learned])
        correct = correct.reshape(len(learned), OF_A_SET**2)
        found[tested] = {
            "same": correct[:, SAME].mean(1).round(4).tolist(),
            "different": np.delete(correct, SAME, axis=1).mean(1).round(4).tolist(),
        }
    began = files.first_environment(folder)
    return {
        "run": folder.name,
        "rule": memory_config.load(folder).rule,
        "networks": len(trials),
        "learned": learned,
        "sets": found,
        "command": began["command"],
        "commit": began["commit"],
    }


def _correct(setup: Any, learner: Any) -> list[bool]:
    """Return which trials of the recorded set are correct."""
    import jax

    from qagrel_jax.population import record

    return [record(setup, learner, i, jax.random.key(i)).correct for i in range(OF_A_SET**2)]


HEADINGS = ("letters\nlearned last", "new\nletters", "new,\nsame", "new,\ndifferent")


def balanced(line: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the accuracy of each network, %: of the set learned last, and the mean of new ones."""
    each = [50 * np.add(tested["same"], tested["different"]) for tested in line["sets"].values()]
    return each[0], np.mean(each[1:], axis=0)


def cells(line: dict[str, Any]) -> list[str]:
    """Return how many networks were tested, and their accuracies under ``HEADINGS``."""
    told = f"{len(line['learned'])} of {line['networks']}"
    if not line["learned"]:
        return [told, *["–"] * len(HEADINGS)]
    _, *new = line["sets"].values()
    kinds = [100 * np.mean([tested[kind] for tested in new], axis=0) for kind in new[0]]
    return [told, *(mean_sd(values, 1) for values in (*balanced(line), *kinds))]


if __name__ == "__main__":
    cli.run(main)
