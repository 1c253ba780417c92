"""Run a working-memory population in a folder: progress, checkpoints, summary, pictures."""

import contextlib
import dataclasses
import io
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.common import cli, files, folders, interrupts, memory, provenance, saved
from experiments.common.cli import UserError
from experiments.common.progress import Reporter
from experiments.working_memory import activity, plots, summary
from experiments.working_memory.config import FILE, MemoryConfig
from qagrel_jax.population import Setup, recording
from qagrel_jax.population.packing import Packed
from qagrel_jax.random_keys import root_key
from qagrel_jax.rules import synapses
from qagrel_jax.rules.augment import AugmentConfig
from qagrel_jax.rules.memory import Config
from qagrel_jax.rules.recollect import RecollectConfig
from qagrel_jax.rules.workmate import WorkmateConfig
from qagrel_jax.tasks import Task, make_task, saccade
from qagrel_jax.tasks.criterion import CONVERGED
from qagrel_jax.training import checkpoints

CHECKPOINT = "checkpoint.msgpack"
OLD_CHECKPOINT = "checkpoint.npz"
MOST_STEPS = 10_000
"""What a duration of a task may be set to: a trial must come to its end."""
MOST_REWARD = 1e6
"""The same for rewards and noise."""
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
"""What a task's parameters are."""


def run(
    config: MemoryConfig, folder: Path, resume: bool = False, checkpoint_seconds: float = 30.0
) -> dict[str, Any]:
    """Run ``config`` in ``folder``, from its checkpoint if it has one; return the summary.

    Raises:
      UserError: parameters the task does not have or out of range, a folder that cannot be written
        or holds another run, a damaged checkpoint, networks that do not fit the memory.
    """
    setup = make_setup(config)
    packed = start(config, setup)
    with folders.claimed(folder, (FILE,), resume):
        seconds = restore(folder, packed, config)
        files.write_json(folder / FILE, config.to_json())
        return _run(config, setup, packed, folder, seconds, checkpoint_seconds)


def start(config: MemoryConfig, setup: Setup) -> Packed:
    """Return the networks before they learn, setting after setting.

    Raises:
      UserError: they do not fit the memory, or their settings are out of range.
    """
    number = len(config.settings) * config.networks
    one = memory.size(setup.rule.init, root_key(config.seed), setup.config)
    # On the host, packed, on the device, and what a step makes of them.
    memory.check(5 * one * number, f"{number:,} networks", "--networks")
    feedback, rate, decay = (
        np.repeat(column, config.networks) for column in zip(*config.settings, strict=True)
    )
    try:
        return Packed(setup, root_key(config.seed), rate, decay, feedback == "tied")
    except ValueError as error:
        raise UserError(str(error)) from None


def _run(
    config: MemoryConfig,
    setup: Setup,
    packed: Packed,
    folder: Path,
    seconds: float,
    checkpoint_seconds: float,
) -> dict[str, Any]:
    files.append_line(folder / "environments.jsonl", provenance.environment())
    seconds = _advance(packed, config, folder, seconds, checkpoint_seconds)
    _save(folder, packed, config, seconds)

    first = files.first_environment(folder)
    content = summary.summarize(config, setup, packed, seconds, first)
    files.write_json(folder / "summary.json", content)
    if len(config.settings) > 1:
        files.write_json(folder / "grid.json", content["grid"])
    plots.converged(folder / "converged.png", content)
    if "levels" in content:
        plots.levels(folder / "levels.png", content)
    _draw_activity(folder / "activity.png", config, setup, packed)
    if len(config.learning_rates) * len(config.tag_decays) > 1:
        plots.grid(folder / "grid.png", content)
    summary.show(content, folder)
    return content


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
        if (levels := task.levels(params)) != len(criterion.windows):  # the same at each level
            changes["windows"] = criterion.windows[:1] * levels
        if "retest_after" in changes and not criterion.test_allowed:
            raise UserError(f"--retest-after does nothing in {task.name}, which has no frozen test")
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
            hint = cli.did_you_mean(str(name), list(names))
            raise UserError(
                f"{task.name} has no parameter {name!r}{hint}; valid: {', '.join(names)}"
            )
        wanted = names[name]
        if wanted is float and type(value) is int:
            parameters[name] = float(value)
        elif type(value) is not wanted:
            raise UserError(f"{name} must be {KINDS[wanted]}, got {value!r}")
        most = {int: MOST_STEPS, float: MOST_REWARD}.get(wanted)
        if most is not None and not abs(value) <= most:
            raise UserError(f"{name} must be at most {most}, got {value!r}")
    return parameters


def _rule(config: MemoryConfig, task: Task) -> Config:
    """Return the rule's sizes and parameters."""
    shared: dict[str, Any] = {
        "inputs": task.inputs,
        "actions": task.actions,
        "memory": config.memory,
        "feedback": "kolen_pollack" if "kolen_pollack" in config.feedbacks else "tied",
        "policy": config.policy,
        "exploration": config.exploration,
        "weight_range": config.weight_range,
        "threshold": config.threshold,
    }
    # Of a grid each network has its own, in the population's settings.
    for name, values in (
        ("learning_rate", config.learning_rates),
        ("tag_decay", config.tag_decays),
    ):
        if len(values) == 1:
            shared[name] = values[0]
    if config.rule == "recollect":
        return RecollectConfig(slope=config.slope, end_input=config.end_input, **shared)
    if config.rule == "workmate":
        shared |= {"blocks": config.blocks, "time_cells": config.time_cells}
        return WorkmateConfig(regular=config.regular, **shared)
    leak = config.leak
    if isinstance(leak, tuple):
        leak = synapses.hybrid_leak(config.memory, *leak)
    return AugmentConfig(regular=config.regular, leak=leak, bias=config.bias, **shared)


def _advance(
    packed: Packed, config: MemoryConfig, folder: Path, seconds: float, checkpoint_seconds: float
) -> float:
    """Advance until every network has converged or given up; return the seconds it took in all."""
    begun = time.perf_counter() - seconds
    saved_at, compiled = time.perf_counter(), False
    with Reporter(config.task, len(packed)) as reporter:
        try:
            while packed.learning.size:
                if not compiled:
                    finished = len(packed) - packed.learning.size
                    reporter.update(finished, "compiling", important=True)
                # A signal waits until the networks have advanced, but not for the compiler.
                with interrupts.held_back() if compiled else contextlib.nullcontext():
                    packed.advance()
                compiled, now = True, time.perf_counter()
                finished = len(packed) - packed.learning.size
                reporter.update(finished, _state(packed, now - begun))
                if now - saved_at >= checkpoint_seconds:
                    _save(folder, packed, config, now - begun)
                    saved_at = now
        except KeyboardInterrupt:
            if compiled:
                _save(folder, packed, config, time.perf_counter() - begun)
            raise
        seconds = time.perf_counter() - begun
        if compiled:
            reporter.finish("", _state(packed, seconds))
    return seconds


def _state(packed: Packed, seconds: float) -> str:
    progress = packed.networks.progress
    finished = len(packed) - packed.learning.size
    converged = int((progress.status == CONVERGED).sum())
    total = int(progress.trials.sum())
    level = f", shaping level {progress.level.mean() + 1:.1f}" * bool(progress.level.any())
    return (
        f"{converged} converged, {finished - converged} gave up; mean trial "
        f"{total / len(packed):,.0f}{level}; {total / max(seconds, 1e-9):,.0f} trials/s"
    )


def _describe(config: MemoryConfig) -> dict[str, Any]:
    return {"config": config.to_json()}


def _save(folder: Path, packed: Packed, config: MemoryConfig, seconds: float) -> None:
    state = _resumable(packed, seconds)
    with interrupts.held_back():
        saved.save(folder / CHECKPOINT, state, _describe(config))
        (folder / OLD_CHECKPOINT).unlink(missing_ok=True)


def _resumable(packed: Packed, seconds: float) -> dict[str, Any]:
    """Return what a checkpoint holds, as it ever did: without ``steps``, always the default."""
    state = {name: value for name, value in packed.state().items() if name != "steps"}
    return {"seconds": np.float64(seconds), **state}


def restore(folder: Path, packed: Packed, config: MemoryConfig) -> float:
    """Take ``packed`` to where its checkpoint was made, if there is one; return the seconds.

    Raises:
      UserError: it cannot be read, is damaged, or of another run.
    """
    path, old = folder / CHECKPOINT, folder / OLD_CHECKPOINT
    if not path.is_file() and not old.is_file():
        return 0.0
    template = _resumable(packed, 0)
    state, read = _load(path, template, packed, config), path
    if state is None:
        read = old
        with saved.explained(old):
            state = _read_old(old)
        if state.keys() != template.keys():
            raise UserError(
                f"{old} is of an earlier version, which this one cannot resume: start the run anew "
                "in another folder"
            )
    try:
        packed.restore(state)
    except Exception as error:
        raise UserError(f"{read} is damaged ({error}): move it away to start it anew") from None
    return float(state["seconds"])


def _load(
    path: Path, template: dict[str, Any], packed: Packed, config: MemoryConfig
) -> dict[str, Any] | None:
    """Read a checkpoint, also one made before the trials of each shaping level were counted."""
    try:
        return saved.load(path, template, _describe(config))
    except UserError:
        if packed.networks.progress.passed is None:
            raise
        earlier = {name: value for name, value in template.items() if name != _last(template)}
        with contextlib.suppress(UserError):
            return saved.load(path, earlier, _describe(config))
        raise


def _last(template: dict[str, Any]) -> str:
    return f"leaf{sum(name.startswith('leaf') for name in template) - 1}"


def _read_old(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(path.read_bytes())) as state:
            return dict(state)
    except OSError:
        raise
    except Exception as error:
        raise checkpoints.CheckpointError(f"damaged: {error}") from None


def _draw_activity(path: Path, config: MemoryConfig, setup: Setup, packed: Packed) -> None:
    """Draw the network whose trials to convergence are the median; the first if none converged.

    A diverged network has no activity to show: it is chosen only if all have diverged.
    """
    trials, gone = packed.trials_to_convergence(), summary.diverged(packed)
    order = sorted(
        range(len(trials)), key=lambda n: (trials[n] is None, gone[n], trials[n] or 0, n)
    )
    converged = sum(t is not None for t in trials)
    number = order[max(converged - 1, 0) // 2]
    learner = packed.network(number).learner
    key = root_key(config.seed)
    recordings = {
        name: _recorded(setup, learner, index, jax.random.fold_in(key, index))
        for name, index in setup.task.examples.items()
    }
    state = f"converged after {trials[number]:,} trials" if trials[number] else "not converged"
    if gone[number]:
        state = "diverged, weights not finite"
    title = f"{plots.task_and_rule(config.task, config.rule)}: network {number}, {state}"
    title = plots.with_settings(title, config.task, config.to_json())
    activity.draw(path, title, setup.task, setup.rule.units, recordings)


def _recorded(setup: Setup, learner: Any, index: int, key: jax.Array) -> recording.Recording:
    """Record a trial, however long its delays were set."""
    steps = 64
    while True:
        try:
            again = jax.random.clone(key)  # of the same trial
            return recording.record(setup, learner, index, again, steps=steps)
        except ValueError:
            if steps > 1_000_000:
                raise
            steps *= 4
