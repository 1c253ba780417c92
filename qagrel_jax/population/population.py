"""Many networks learn a working-memory task at once, in one compiled program.

Every network has its own environment, its own trial clock and its own random numbers, which depend
on the seed and its number alone: network 7 learns the same in a population of ten and of ten
thousand.

``advance`` runs all networks of a block for a number of steps. The networks' axis comes last in
every array (see ``qagrel_jax.rules.augment``), and all random numbers of the call are drawn before
its loop, which is what makes it fast. A network that has converged or given up learns no more, one
that has diverged (its δ is not finite) gives up at once; ``Packed`` takes such networks out between
calls.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax import checks
from qagrel_jax.policies import epsilon_greedy_probabilities, max_boltzmann_probabilities
from qagrel_jax.random_keys import IMPLEMENTATION
from qagrel_jax.rules import augment_continuous, memory, synapses
from qagrel_jax.tasks import base
from qagrel_jax.tasks import criterion as criteria


@dataclasses.dataclass(frozen=True)
class Setup:
    """What all networks of a population share; hashable, so it may be a static argument.

    Attributes:
      task: from ``qagrel_jax.tasks.TASKS``.
      params: the task's parameters; shaping starts at level 0, whatever their ``level``.
      config: sizes and parameters of the rule: AuGMEnT's, RECOLLECT's or WorkMATe's.
      criterion: when a network has learned.
      substeps: of each action, see ``rules.augment_continuous``; 1 is AuGMEnT.
      cooling: trials T* in which exploration sharpens: after t trials a max-Boltzmann draw has the
        inverse temperature 1 + (10/π) arctan(t/T*). 0 for a temperature of 1 throughout.

    Raises:
      ValueError: ``config.inputs`` or ``config.actions`` is not the task's, or the criterion's
        windows are not one for each of the task's shaping levels, or its conditions or repeats of a
        test not as many as the task's; a parameter of ``params`` or ``config`` that is not one
        number; ``substeps`` below 1, or above 1 with another rule than AuGMEnT; ``cooling``
        negative, or without max-Boltzmann exploration.
      TypeError: a value of another type, or a traced one; ``params`` that are no frozen dataclass
        with a field ``level``, or have no hash.
    """

    task: base.Task
    params: Any
    config: memory.Config
    criterion: criteria.Criterion
    substeps: int = 1
    cooling: int = 0

    def __post_init__(self) -> None:
        checks.instance("task", self.task, base.Task, "make_task gives one by its name")
        if not isinstance(self.task.params, type):
            kind = type(self.task.params).__name__
            raise TypeError(f"task.params must be the class of its parameters, {kind} itself")
        checks.instance("params", self.params, self.task.params)
        frozen = getattr(type(self.params), "__dataclass_params__", None)
        if not (hasattr(self.params, "level") and frozen is not None and frozen.frozen):
            raise TypeError(
                f"{type(self.params).__name__} must be a frozen dataclass with a field level, the "
                "shaping level: frozen, so that it has a hash"
            )
        memory.rule_of(self.config)
        checks.instance("criterion", self.criterion, criteria.Criterion)
        checks.whole("substeps", self.substeps)
        object.__setattr__(self, "params", _shared("params", self.params))
        try:
            hash(self.params)
        except TypeError as error:
            raise TypeError(
                f"params must have a hash, as tuples have and lists have not ({error})"
            ) from None
        object.__setattr__(self, "config", _shared("config", self.config))
        if self.config.inputs != self.task.inputs:
            raise ValueError(
                f"{self.task.name} has {self.task.inputs} inputs, got config.inputs = "
                f"{self.config.inputs}"
            )
        if self.config.actions != self.task.actions:
            raise ValueError(
                f"{self.task.name} has {self.task.actions} actions, got config.actions = "
                f"{self.config.actions}"
            )
        own = self.task.criterion.test_repeats
        if self.criterion.test_allowed and self.criterion.test_repeats != own:
            raise ValueError(
                f"criterion.test_repeats must be {own}, the trials of each group of the test of "
                f"{self.task.name}, got {self.criterion.test_repeats}"
            )
        levels = self.task.levels(self.params)
        if len(self.criterion.windows) != levels:
            raise ValueError(
                f"criterion.windows needs one entry for each of the {levels} shaping levels of "
                f"{self.task.name}, got {self.criterion.windows}"
            )
        conditions = self.task.criterion.conditions
        if self.criterion.conditions != conditions:
            raise ValueError(
                f"criterion.conditions must be {conditions}, those of {self.task.name}, got "
                f"{self.criterion.conditions}"
            )
        if self.substeps > 1 and self.rule is not memory.RULES["augment"]:
            raise ValueError(f"substeps must be 1 with this rule, got {self.substeps}")
        checks.whole("cooling", self.cooling, 0)
        object.__setattr__(self, "substeps", int(self.substeps))
        object.__setattr__(self, "cooling", int(self.cooling))
        if self.cooling and self.config.policy != "max_boltzmann":
            raise ValueError(
                f"cooling must be 0, or positive with policy 'max_boltzmann', got {self.cooling} "
                f"with {self.config.policy!r}"
            )

    def __hash__(self) -> int:
        own = self.criterion, self.substeps, self.cooling
        return hash((self.task.name, self.params, self.config, *own))

    @property
    def rule(self) -> memory.MemoryRule:
        """The rule that ``config`` belongs to."""
        return memory.rule_of(self.config)

    def step(self, *arguments: Any, **options: Any) -> tuple[Any, Any]:
        """One step of the rule, in ``substeps``; arguments as in ``augment.step``."""
        if self.substeps == 1:
            return self.rule.step(*arguments, **options)
        return augment_continuous.step(*arguments, substeps=self.substeps, **options)


def _shared(name: str, parameters: Any) -> Any:
    """Return ``parameters`` with numbers in place of arrays of one, which have no hash."""

    def plain(path: Any, value: Any) -> Any:
        if not isinstance(value, np.ndarray | jax.Array):
            return value
        argument = name + jax.tree_util.keystr(path)
        if not checks.known(value):
            raise TypeError(f"{argument} must be known when compiling, got a traced value")
        if value.ndim:
            raise ValueError(
                f"{argument} must be one number for all networks, got shape {value.shape}: Packed "
                "takes learning_rate and tag_decay that differ"
            )
        return value.item()

    return jax.tree_util.tree_map_with_path(plain, parameters)


class Settings(NamedTuple):
    """Parameters that may differ from network to network."""

    learning_rate: chex.Array  # float[networks], β
    tag_decay: chex.Array  # float[networks], λ
    tied: chex.Array  # bool[networks]; whose own feedback weights start as Wᵀ, and stay so


class Population(NamedTuple):
    """A block of networks; the networks' axis is the last of every array."""

    key: chex.Array  # uint32[2, networks], each network's own random key
    settings: Settings  # what differs between networks
    learner: Any  # the rule's state: weights, traces, memory
    trial_state: base.TrialState  # the trial of each network
    timestep: base.TimeStep  # what the networks are about to see
    progress: criteria.Progress  # how far each network is from its criterion


@functools.partial(jax.jit, static_argnames="setup")
def start(setup: Setup, key: chex.PRNGKey, numbers: chex.Array, settings: Settings) -> Population:
    """Make untrained networks, each at the first step of its first trial.

    Args:
      setup: what they share.
      key: the run's random key.
      numbers: int[networks], each network's number, which with ``key`` fixes all that is random.
      settings: what they do not share.

    Returns:
      The ``Population``.
    """

    def one(number: chex.Array, settings: Settings) -> Population:
        own, weights, trial = jax.random.split(jax.random.fold_in(key, number), 3)
        params = dataclasses.replace(setup.params, level=jnp.int32(0))
        trial_state, timestep = _seen(setup.task.reset(trial, params))
        learner = setup.rule.tie_feedback(setup.rule.init(weights, setup.config), settings.tied)
        return Population(
            key=_numbers(own),
            settings=settings,
            learner=learner,
            trial_state=trial_state,
            timestep=timestep,
            progress=criteria.start(setup.criterion),
        )

    return jax.vmap(one, out_axes=-1)(numbers, settings)


def _numbers(key: chex.PRNGKey) -> chex.Array:
    """Return the numbers of a key of the pinned implementation; another draws such a one."""
    if str(jax.random.key_impl(key)) == IMPLEMENTATION:
        return jax.random.key_data(key)
    return jax.random.bits(key, (2,), jnp.uint32)


@functools.partial(jax.jit, static_argnames=("setup", "steps"), donate_argnames="population")
def advance(setup: Setup, population: Population, turn: chex.Array, steps: int) -> Population:
    """Let all networks act and learn for ``steps`` steps.

    Args:
      setup: what they share.
      population: where they stand.
      turn: int[], the chunk's number, different in every call; with each network's key it
        determines all random numbers of this call.
      steps: how many steps, each one observation of each network.

    Returns:
      The ``Population`` afterwards; the one passed in is donated.

    Raises:
      ValueError: ``steps`` below 1.
      TypeError: ``steps`` is no number.
    """
    checks.whole("steps", steps)
    randomness = jax.vmap(
        lambda key: _draw(setup, jax.random.wrap_key_data(key, impl=IMPLEMENTATION), turn, steps),
        in_axes=-1,
        out_axes=(-1, -1, -1),
    )(population.key)
    body = functools.partial(_step, setup)
    return jax.lax.scan(body, population, randomness)[0]


def _draw(setup: Setup, key: chex.PRNGKey, turn: chex.Array, steps: int) -> tuple:
    """All that is random in one network's next ``steps`` steps."""
    policy, task = jax.random.split(jax.random.fold_in(key, turn))
    gumbel = _gumbel(policy, setup.rule.choices(setup.config), steps)
    keys = jax.random.split(task, (steps, 2))
    # JAX's check for reused keys takes one column's use for the use of both: hence the clone.
    trials, moves = keys[:, 0], jax.random.clone(keys)[:, 1]
    params = dataclasses.replace(setup.params, level=jnp.int32(0))
    noise = jax.vmap(lambda key: setup.task.draw(key, params))(trials)
    # As plain numbers: JAX's check for reused keys does not follow keys through a mapped scan.
    return gumbel, noise, jax.random.key_data(moves)


def _gumbel(key: chex.PRNGKey, choices: tuple[int, ...], steps: int) -> Any:
    """Draw what every choice of every step needs; of several choices, a tuple."""
    if len(choices) == 1:
        return jax.random.gumbel(key, (steps, *choices))
    keys = jax.random.split(key, len(choices))
    pairs = zip(keys, choices, strict=True)
    return tuple(jax.random.gumbel(own, (steps, options)) for own, options in pairs)


def _step(setup: Setup, population: Population, randomness: tuple) -> tuple[Population, None]:
    """One step of every network: see, learn, act; count an ended trial; advance the environment."""
    gumbel, noise, keys = randomness
    _, settings, learner, trial_state, timestep, progress = population

    config = dataclasses.replace(
        setup.config, learning_rate=settings.learning_rate, tag_decay=settings.tag_decay
    )
    learner, activity = setup.step(
        gumbel,
        config,
        learner,
        timestep.observation,
        timestep.reward,
        timestep.done,
        plastic=progress.status == criteria.TRAINING,
        choose=_chooser(setup, progress.trials),
    )
    ended = timestep.done
    run = None
    if setup.task.run:
        run = jax.vmap(setup.task.run, in_axes=-1)(trial_state.trial)
    progress = criteria.update(
        setup.criterion,
        progress,
        ended,
        timestep.correct,
        jax.vmap(setup.task.condition, in_axes=-1)(trial_state.trial),
        run,
    )
    # A network whose values are no numbers has nothing to learn any more.
    lost = ~jnp.isfinite(activity.rpe) & (progress.status < criteria.CONVERGED)
    progress = progress._replace(status=jnp.where(lost, criteria.GAVE_UP, progress.status))
    next_trial = jax.vmap(functools.partial(_next_trial, setup), in_axes=-1, out_axes=-1)
    same_trial = jax.vmap(
        functools.partial(_same_trial, setup), in_axes=(-1, -1, -1, -1), out_axes=-1
    )
    trial_state, timestep = base.select(
        ended,
        next_trial(noise, progress),
        same_trial(keys, trial_state, activity.action, progress.level),
    )
    return population._replace(
        learner=learner, trial_state=trial_state, timestep=timestep, progress=progress
    ), None


def _next_trial(
    setup: Setup, noise: Any, progress: criteria.Progress
) -> tuple[base.TrialState, base.TimeStep]:
    params = dataclasses.replace(setup.params, level=progress.level)
    trial = setup.task.build(noise, params)
    if setup.criterion.test_allowed:
        testing = progress.status == criteria.TESTING
        test = setup.task.test_trial(noise, progress.test_index, params)
        trial = base.select(testing, test, trial)
    return _seen(setup.task.begin(trial, params))


def _same_trial(
    setup: Setup,
    key: chex.Array,
    trial_state: base.TrialState,
    action: chex.Array,
    level: chex.Array,
) -> tuple[base.TrialState, base.TimeStep]:
    key = jax.random.wrap_key_data(key, impl=IMPLEMENTATION)
    params = dataclasses.replace(setup.params, level=level)
    return _seen(setup.task.step(key, trial_state, action, params))


def _seen(moment: tuple[base.TrialState, base.TimeStep]) -> tuple[base.TrialState, base.TimeStep]:
    return moment[0], base.as_documented(moment[1])


def _chooser(setup: Setup, trials: chex.Array) -> synapses.Chooser:
    """The policy of ``setup.config``, for numbers drawn beforehand."""
    if setup.config.policy == "epsilon_greedy":
        return epsilon_greedy_from_gumbel
    if not setup.cooling:
        return max_boltzmann_from_gumbel
    inverse = 1 + 10 / jnp.pi * jnp.arctan(trials.astype(jnp.float32) / setup.cooling)
    return functools.partial(max_boltzmann_from_gumbel, temperature=1 / inverse)


def max_boltzmann_from_gumbel(
    gumbel: chex.Array,
    q_values: chex.Array,
    epsilon: chex.Array,
    temperature: chex.Array | None = None,
) -> chex.Array:
    """``policies.max_boltzmann`` for many networks, its randomness drawn beforehand.

    argmax_a (log p_a + gumbel_a) is a draw from p; with the Gumbel numbers of key k it is the same
    action as ``max_boltzmann(k, …)``.

    Args:
      gumbel: float[actions, networks].
      q_values: float[actions, networks].
      epsilon: float[networks].
      temperature: float[networks], T of the softmax; None for 1.

    Returns:
      int32[networks]; −1 where there is nothing to choose.
    """
    each = (q_values, epsilon) if temperature is None else (q_values, epsilon, temperature)
    probabilities = jax.vmap(max_boltzmann_probabilities, in_axes=-1, out_axes=-1)(*each)
    return _drawn(gumbel, probabilities)


def epsilon_greedy_from_gumbel(
    gumbel: chex.Array, q_values: chex.Array, epsilon: chex.Array
) -> chex.Array:
    """``policies.epsilon_greedy`` for many networks; arguments as above."""
    probabilities = jax.vmap(epsilon_greedy_probabilities, in_axes=-1, out_axes=-1)(
        q_values, epsilon
    )
    return _drawn(gumbel, probabilities)


def _drawn(gumbel: chex.Array, probabilities: chex.Array) -> chex.Array:
    action = jnp.argmax(jnp.log(probabilities) + gumbel, axis=0).astype(jnp.int32)
    # As the policies: −1 where there is nothing to choose.
    return jnp.where(jnp.isnan(probabilities).any(0), -1, action)
