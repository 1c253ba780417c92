"""Run curve-tracing networks in a folder: progress, checkpoints, summary, pictures."""

import io
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import qagrel_jax
from experiments.common import fields, files, folders, provenance
from experiments.common.cli import UserError
from experiments.common.progress import Reporter
from experiments.curve_tracing import config as curve_config
from experiments.curve_tracing import learners, plots, summary
from experiments.curve_tracing.config import FILE, FIRST_LENGTH, CurveConfig
from qagrel_jax.random_keys import root_key

CHECKPOINT = "checkpoint.npz"
TESTS = "tests.jsonl"
EXAMPLES = 100
"""Trials over which activity along the curves is averaged."""


def run(config: CurveConfig, folder: Path, resume: bool = False) -> dict[str, Any]:
    """Run ``config`` in ``folder``, from its checkpoint if it has one; return the summary.

    Raises:
      UserError: a folder that cannot be written or holds another run, a damaged checkpoint.
    """
    with folders.claimed(folder, (FILE,), resume):
        files.write_json(folder / FILE, config.to_json())
        return _run(config, folder)


def _run(config: CurveConfig, folder: Path) -> dict[str, Any]:
    environments = folder / "environments.jsonl"
    files.append_line(environments, provenance.environment())
    functions = learners.make(config)
    state = restore(folder, config, functions)
    _cut_tests(folder, config, state["trials"])
    _train(config, folder, functions, state)

    lengths = config.test_lengths
    # Tests at the end have numbers of their own, after those of the training.
    tested = [
        functions.test(
            state["variables"], config.max_trials + length, np.full(config.networks, length)
        )
        for length in lengths
    ]
    lines = files.read_lines(folder / TESTS)
    first = files.first_environment(folder)
    content = summary.summarize(config, lines, lengths, tested, first)
    files.write_json(folder / "summary.json", content)
    plots.learning(folder / "learning.png", content, lines)
    plots.generalization(folder / "generalization.png", content)
    _draw_activity(folder / "activity.png", config, functions, state, content)
    summary.show(content, folder)
    return content


def _train(
    config: CurveConfig, folder: Path, functions: learners.Learners, state: dict[str, Any]
) -> None:
    """Train and test in turn, each network at its length, until all have learned or given up."""
    with Reporter("curve_tracing", config.max_trials) as reporter:
        if not state["done"].all() and state["trials"] < config.max_trials:
            reporter.update(state["trials"], "compiling", important=True)
        while not state["done"].all() and state["trials"] < config.max_trials:
            begun, learning = time.perf_counter(), ~state["done"]
            state["variables"], figures = functions.learn(
                state["variables"], state["trials"], state["lengths"], learning
            )
            state["trials"] += config.test_every
            accuracy = np.asarray(
                functions.test(state["variables"], state["trials"], state["lengths"]).accuracy
            )
            line = {
                "trials": state["trials"],
                "length": state["lengths"].tolist(),
                "learning": learning.tolist(),
                "accuracy": np.asarray(accuracy, float).round(6).tolist(),
                **{k: summary.finite(v) for k, v in figures._asdict().items()},
            }
            last = state["lengths"] == config.max_length
            state["done"] |= last & (accuracy >= config.final_accuracy - 1e-6)
            state["lengths"] += learning & ~last & (accuracy >= config.accuracy - 1e-6)
            line["seconds"] = round(time.perf_counter() - begun, 3)
            _save(folder, config, state, line)
            reporter.update(
                state["trials"],
                f"lengths {', '.join(map(str, line['length']))}: accuracy "
                f"{', '.join(f'{a:.1%}' for a in accuracy)}; "
                f"{learning.sum() * config.test_every / max(line['seconds'], 1e-3):,.0f} trials/s",
                important=True,
            )


def _save(folder: Path, config: CurveConfig, state: dict[str, Any], line: dict[str, Any]) -> None:
    leaves = jax.tree.leaves(state["variables"])
    arrays = {f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    buffer = io.BytesIO()
    arrays |= {name: np.asarray(state[name]) for name in ("trials", "lengths", "done")}
    np.savez(buffer, allow_pickle=False, about=_about(config), **arrays)
    files.append_line(folder / TESTS, line)
    files.write_bytes(folder / CHECKPOINT, buffer.getvalue())


def restore(folder: Path, config: CurveConfig, functions: learners.Learners) -> dict[str, Any]:
    """Return the state of the checkpoint, that of new networks if there is none.

    Raises:
      UserError: it is damaged, or of another config.
    """
    variables = functions.init()
    state = {
        "variables": variables,
        "trials": 0,
        "lengths": np.full(config.networks, FIRST_LENGTH),
        "done": np.zeros(config.networks, bool),
    }
    path = folder / CHECKPOINT
    if path.is_file():
        moved = f"move it and {TESTS} away to start the run anew"
        try:
            with np.load(io.BytesIO(path.read_bytes())) as saved:
                leaves = [saved[f"leaf_{i}"] for i in range(len(jax.tree.leaves(variables)))]
                state["variables"] = jax.tree.map(
                    lambda leaf, now: leaf.reshape(now.shape),
                    jax.tree.unflatten(jax.tree.structure(variables), leaves),
                    variables,
                )
                state |= {"trials": int(saved["trials"])}
                shape = (config.networks,)
                state |= {name: saved[name].reshape(shape) for name in ("lengths", "done")}
                # None: of a version that did not write it.
                about = json.loads(str(saved["about"])) if "about" in saved else None
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{path} is damaged, or of another version ({reason}): {moved}"
            ) from None
        there = None if about is None else curve_config.from_json(about["config"])
        if there and (names := fields.difference(there, config)):
            told = fields.told(there, config, names)
            raise UserError(f"{path} was written with another config ({told}): {moved}")
    return state


def _about(config: CurveConfig) -> str:
    return json.dumps({"qagrel_jax": qagrel_jax.__version__, "config": config.to_json()})


def _cut_tests(folder: Path, config: CurveConfig, trials: int) -> None:
    """Drop the line of trials that will be run again: a kill came between the two files.

    Raises:
      UserError: other lines are damaged or lost, without which trials cannot be counted.
    """
    path = folder / TESTS
    lines = [line for line in files.read_lines(path) if _is_whole(line, config)]
    lines = [line for line in lines if line["trials"] <= trials]
    wanted = list(range(config.test_every, trials + 1, config.test_every))
    if [line["trials"] for line in lines] != wanted:
        raise UserError(
            f"{path} lacks tests that {CHECKPOINT} has, or is damaged: move both away to start the "
            "run anew"
        )
    files.write_lines(path, lines)


def _is_whole(line: dict[str, Any], config: CurveConfig) -> bool:
    rows = [line.get(name) for name in ("length", "learning", "accuracy")]
    numbers = [line.get(name) for name in ("trials", "seconds")]
    return all(isinstance(row, list) and len(row) == config.networks for row in rows) and all(
        isinstance(number, int | float) for number in numbers
    )


def _draw_activity(
    path: Path,
    config: CurveConfig,
    functions: learners.Learners,
    state: dict[str, Any],
    content: dict[str, Any],
) -> None:
    """Draw the network of the highest accuracy at the last length, and the means of all."""
    length = config.max_length
    best = int(np.argmax(content["accuracy"][str(length)]))
    keys = jax.random.split(root_key(config.seed), EXAMPLES)

    def one(variables: Any, key: Any) -> tuple[Any, Any, Any]:
        trial, image, states = functions.record(variables, key, length)
        return trial, image, states.modulated_input.sum(-1)

    # Few trials at a time: the whole activity of all may be more than fits into memory.
    record = jax.jit(lambda v, keys: jax.lax.map(lambda key: one(v, key), keys, batch_size=10))
    along = []
    for number in range(config.networks):
        variables = jax.tree.map(lambda leaf, n=number: leaf[n], state["variables"])
        # The same trials for every network.
        trials, images, maps = record(variables, jax.random.clone(keys))
        maps = np.asarray(maps)  # [trials, steps, n, n]
        flat = maps.reshape(*maps.shape[:2], -1)
        curves = [np.asarray(curve)[:, :length] for curve in (trials.target, trials.distractor)]
        along.append(
            [np.take_along_axis(flat, curve[:, None], axis=-1).mean(0) for curve in curves]
        )
        if number == best:
            example = (np.asarray(images[0]), maps[0], f"network {best}")
    plots.activity(path, example, np.array(along))
