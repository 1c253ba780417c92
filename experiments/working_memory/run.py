"""Run a working-memory population in a folder: progress, checkpoints, summary, pictures."""

import dataclasses
import io
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.common import files, folders, provenance
from experiments.common.cli import UserError
from experiments.common.progress import Reporter
from experiments.train import folder as run_folder
from experiments.working_memory import activity as memory_activity
from experiments.working_memory import plots as memory_plots
from experiments.working_memory import summary as memory_summary
from experiments.working_memory.config import MemoryConfig
from qagrel_jax.population import Setup, recording
from qagrel_jax.population.packing import Packed
from qagrel_jax.random_keys import root_key
from qagrel_jax.rules import synapses
from qagrel_jax.rules.augment import AugmentConfig
from qagrel_jax.rules.recollect import RecollectConfig
from qagrel_jax.tasks import Task, make_task, saccade
from qagrel_jax.tasks.criterion import CONVERGED

CHECKPOINT = "checkpoint.npz"


def run(config: MemoryConfig, folder: Path, checkpoint_seconds: float = 30.0) -> dict[str, Any]:
    """Run ``config`` in ``folder``, from its checkpoint if it has one; return the summary.

    Raises:
      UserError: parameters the task does not have or out of range, a folder that cannot be written,
        a damaged checkpoint.
    """
    setup = make_setup(config)
    with folders.locked(folder):
        with folders.writable(folder):
            files.write_json(folder / "config.json", config.to_json())
        return _run(config, setup, folder, checkpoint_seconds)


def _run(
    config: MemoryConfig, setup: Setup, folder: Path, checkpoint_seconds: float
) -> dict[str, Any]:
    environments = folder / "environments.jsonl"
    run_folder.append_line(environments, provenance.environment())
    packed, seconds = _load(folder, config, setup)
    seconds = _advance(packed, config, folder, seconds, checkpoint_seconds)
    _save(folder, packed, seconds)

    first = run_folder.read_lines(environments)[0]  # a later one only went on
    summary = memory_summary.summarise(config, setup, packed, seconds, first)
    files.write_json(folder / "summary.json", summary)
    if len(config.settings) > 1:
        files.write_json(folder / "grid.json", summary["grid"])
    memory_plots.converged(folder / "converged.png", summary)
    _draw_activity(folder / "activity.png", config, setup, packed)
    if len(config.learning_rates) * len(config.tag_decays) > 1:
        memory_plots.grid(folder / "grid.png", summary)
    memory_summary.show(summary, folder)
    return summary


def make_setup(config: MemoryConfig) -> Setup:
    """Return the population's ``Setup``.

    Raises:
      UserError: what the task or the network will not have.
    """
    task = make_task(config.task)
    parameters = _task_parameters(task, config.task_parameters)
    try:
        params = task.params(**parameters)
        criterion = task.criterion
        if config.rule == "recollect" and task.name == "saccade":
            criterion = saccade.recollect_criterion(params)
        changes = {name: getattr(config, name) for name in ("max_trials", "retest_after")}
        changes = {name: value for name, value in changes.items() if value is not None}
        if len(criterion.windows) < task.levels(params):  # a curriculum: the same at each level
            changes["windows"] = criterion.windows * task.levels(params)
        criterion = dataclasses.replace(criterion, **changes)
        rule = _rule(config, task)
        return Setup(task, params, rule, criterion, config.substeps, config.cooling)
    except (TypeError, ValueError) as error:
        raise UserError(str(error)) from None


def _task_parameters(task: Task, given: dict[str, Any]) -> dict[str, Any]:
    """Return ``given`` with whole numbers as floats where the task wants floats."""
    names = {f.name: type(f.default) for f in dataclasses.fields(task.params)}
    del names["level"]
    parameters = dict(given)
    for name, value in parameters.items():
        if name not in names:
            raise UserError(f"{task.name} has no parameter {name!r}; valid: {', '.join(names)}")
        wanted = names[name]
        if wanted is float and type(value) is int:
            parameters[name] = float(value)
        elif type(value) is not wanted:
            raise UserError(f"{name} must be {wanted.__name__}, got {value!r}")
    return parameters


def _rule(config: MemoryConfig, task: Task) -> AugmentConfig | RecollectConfig:
    """Return the rule's sizes and parameters."""
    shared = {
        "inputs": task.inputs,
        "actions": task.actions,
        "memory": config.memory,
        "feedback": "kolen_pollack" if "kolen_pollack" in config.feedbacks else "tied",
        "policy": config.policy,
        "exploration": config.exploration,
        "weight_range": config.weight_range,
        "threshold": config.threshold,
    }
    if config.rule == "recollect":
        return RecollectConfig(slope=config.slope, end_input=config.end_input, **shared)
    leak = config.leak
    if isinstance(leak, tuple):
        leak = synapses.hybrid_leak(config.memory, *leak)
    return AugmentConfig(regular=config.regular, leak=leak, **shared)


def _advance(
    packed: Packed, config: MemoryConfig, folder: Path, seconds: float, checkpoint_seconds: float
) -> float:
    """Advance until every network has converged or given up; return the seconds it took in all."""
    begun = time.perf_counter() - seconds
    saved = time.perf_counter()
    with Reporter(config.task, len(packed)) as reporter:
        if packed.learning.size:
            reporter.update(len(packed) - packed.learning.size, "compiling", important=True)
        while packed.learning.size:
            packed.advance()
            now = time.perf_counter()
            progress = packed.networks.progress
            converged = int((progress.status == CONVERGED).sum())
            finished = len(packed) - packed.learning.size
            total = int(progress.trials.sum())
            level = f", shaping level {progress.level.mean() + 1:.1f}" * bool(progress.level.any())
            reporter.update(
                finished,
                f"{converged} converged, {finished - converged} gave up; mean trial "
                f"{total / len(packed):,.0f}{level}; {total / (now - begun):,.0f} trials/s",
            )
            if now - saved >= checkpoint_seconds:
                _save(folder, packed, now - begun)
                saved = time.perf_counter()
    return time.perf_counter() - begun


def _save(folder: Path, packed: Packed, seconds: float) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, seconds=np.float64(seconds), **packed.state())
    files.write_bytes(folder / CHECKPOINT, buffer.getvalue())


def _load(folder: Path, config: MemoryConfig, setup: Setup) -> tuple[Packed, float]:
    feedback, rate, decay = (
        np.repeat(column, config.networks) for column in zip(*config.settings, strict=True)
    )
    packed = Packed(setup, root_key(config.seed), rate, decay, feedback == "tied")
    path = folder / CHECKPOINT
    if not path.is_file():
        return packed, 0.0
    try:
        content = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    try:
        with np.load(content) as state:
            packed.restore(dict(state))
            return packed, float(state["seconds"])
    except Exception as error:
        raise UserError(
            f"{path} is damaged, or of another version ({error}): move it away to start the run "
            "anew"
        ) from None


def _draw_activity(path: Path, config: MemoryConfig, setup: Setup, packed: Packed) -> None:
    """Draw the network whose trials to convergence are the median; the best-placed if none are."""
    trials = packed.trials_to_convergence()
    order = sorted(range(len(trials)), key=lambda n: (trials[n] is None, trials[n] or 0, n))
    converged = sum(t is not None for t in trials)
    number = order[max(converged - 1, 0) // 2]
    learner = packed.network(number).learner
    key = root_key(config.seed)
    recordings = {
        name: _recorded(setup, learner, index, jax.random.fold_in(key, index))
        for name, index in setup.task.examples.items()
    }
    state = f"converged after {trials[number]:,} trials" if trials[number] else "not converged"
    named = f"{config.task}, RECOLLECT" if config.rule == "recollect" else config.task
    title = f"{named}: network {number}, {state}"
    memory_activity.draw(path, title, setup.task, setup.rule.units, recordings)


def _recorded(setup: Setup, learner: Any, index: int, key: jax.Array) -> recording.Recording:
    """Record a trial, however long its delays were set."""
    steps = 64
    while True:
        try:
            again = jax.random.clone(key)  # of the same trial
            return recording.record(setup, learner, index, again, steps=steps)
        except ValueError:
            if steps > 100_000:
                raise
            steps *= 4
