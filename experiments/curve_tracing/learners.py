"""Networks that trace curves, all in one compiled program: training and frozen tests.

What a network draws depends on the run's seed and its own number alone, and on no other network.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.curve_tracing.config import FIRST_LENGTH, CurveConfig
from qagrel_jax import checks
from qagrel_jax.policies import greedy, make_policy
from qagrel_jax.random_keys import root_key
from qagrel_jax.recurrent import GridNet, GridState, as_recurrent, relative_rates
from qagrel_jax.rules import Rule, relearnn
from qagrel_jax.tasks import curve_tracing

WEIGHTS, TESTS = 2**31 - 1, 2**31 - 2
"""What is folded into a network's key for these; training trials fold their number in."""


class Trials(NamedTuple):
    """Means over the training trials of one call, float[networks]."""

    correct: Any
    steps: Any  # of the activity
    settled: Any  # fraction of trials in which the activity reached the tolerance
    attention_residual: Any  # the accessory network's last change


class FrozenTest(NamedTuple):
    """A frozen test of every network, float[networks]."""

    accuracy: Any
    apart: Any  # fraction of trials in which no pixel is beside both curves
    accuracy_apart: Any  # in these; NaN if there are none


class Learners(NamedTuple):
    """Compiled functions over all networks."""

    init: Callable[[], Any]  # () -> variables
    learn: Callable[..., tuple[Any, Trials]]  # (variables, first trial, lengths, learning)
    test: Callable[..., FrozenTest]  # (variables, number of the test, lengths)
    record: Callable[..., tuple]  # (variables of one, key, length) -> trial, image, activity


class Built(NamedTuple):
    """What a run's configuration describes, built."""

    config: CurveConfig
    network: GridNet
    rule: Rule
    frozen: Rule  # greedy, for the tests
    optimizer: optax.GradientTransformation
    task: curve_tracing.Params
    keys: Any  # a random key for each network


def make(config: CurveConfig, longest: int | None = None) -> Learners:
    """Build the functions of a run.

    Args:
      config: the run's.
      longest: pixels of the longest curves; None: those of the run's last tests.

    Returns:
      ``Learners``, which raise ``ValueError`` for curves of other lengths.
    """
    policy = make_policy("max_boltzmann", epsilon=config.exploration)
    settling = partial(relearnn, steps=config.steps, tolerance=config.tolerance)
    longest = longest or max(config.test_lengths)
    number = jnp.arange(config.networks)
    network = GridNet(shared=config.shared, feedback=config.feedback)
    scale = partial(
        relative_rates, network, neighbors=config.neighbor_rate, outputs=config.output_rate
    )
    built = Built(
        config=config,
        network=network,
        rule=settling(policy, sweeps=config.sweeps, clip=config.clip, scale=scale),
        frozen=settling(greedy, sweeps=1),
        optimizer=optax.sgd(config.learning_rate),
        task=curve_tracing.Params(config.grid, longest, 3, longest, config.reward, config.apart),
        keys=jax.vmap(lambda n: jax.random.fold_in(root_key(config.seed), n))(number),
    )
    init, *others = (jax.jit(partial(f, built)) for f in (_init, _learn, _test, _record))
    return Learners(init, *(_within(longest, function) for function in others))


def _within(longest: int, function: Callable) -> Callable:
    """Refuse lengths that the compiled ``function`` (variables, …, lengths, …) would cut short."""

    def called(variables: Any, other: Any, lengths: Any, *rest: Any) -> Any:
        if checks.known(lengths):
            low, high = np.min(lengths), np.max(lengths)
            if not FIRST_LENGTH <= low <= high <= longest:
                raise ValueError(
                    f"curves must be {FIRST_LENGTH} to {longest} pixels long, got "
                    f"{low if low < FIRST_LENGTH else high}"
                )
        return function(variables, other, lengths, *rest)

    return called


def _init(built: Built) -> Any:
    grid, colors = built.config.grid, built.network.colors

    def one(key: Any) -> Any:
        images = jnp.zeros((1, grid, grid, colors))
        start = as_recurrent(built.network).start(images)
        return built.network.init(jax.random.fold_in(key, WEIGHTS), start, images)

    return jax.vmap(one)(built.keys)


def _learn(
    built: Built, variables: Any, first: Any, lengths: Any, learning: Any
) -> tuple[Any, Trials]:
    """Train on the next ``test_every`` trials, of curves of ``lengths`` [networks]."""

    def one(variables: Any, number: Any) -> tuple[Any, Trials]:
        now = jax.vmap(jax.random.fold_in, (0, None))(built.keys, number)
        return jax.vmap(partial(_learn_one, built))(now, variables, lengths, learning)

    numbers = first + jnp.arange(built.config.test_every)
    variables, figures = jax.lax.scan(one, variables, numbers)
    return variables, jax.tree.map(lambda x: x.mean(0), figures)


def _learn_one(
    built: Built, key: Any, variables: Any, length: Any, learning: Any
) -> tuple[Any, Trials]:
    """Let one network learn from one trial."""
    optimizer = built.optimizer
    shortest = jnp.minimum(length, FIRST_LENGTH + 1)
    _, decision, reward, correct = _act(built, built.rule, key, variables, shortest, length)
    grads, _ = built.rule.update(decision, reward[None])
    updates, _ = optimizer.update(grads, optimizer.init(variables["params"]))
    updates = jax.tree.map(lambda u: jnp.where(learning, u, 0), updates)
    params = optax.apply_updates(variables["params"], updates)
    seen = decision.aux
    figures = Trials(
        correct.astype(jnp.float32),
        seen.steps[0].astype(jnp.float32),
        (seen.residual[0] <= built.config.tolerance).astype(jnp.float32),
        seen.attention_residual[0],
    )
    return {**variables, "params": params}, figures


def _test(built: Built, variables: Any, number: Any, lengths: Any) -> FrozenTest:
    """Let each network make the trials of a frozen test."""

    def one(_: None, trial: Any) -> tuple[None, Any]:
        def of_network(key: Any, variables: Any, length: Any) -> Any:
            key = jax.random.fold_in(jax.random.fold_in(key, TESTS), number)
            trial_key = jax.random.fold_in(key, trial)
            shown, _, _, correct = _act(built, built.frozen, trial_key, variables, length, length)
            return correct, ~curve_tracing.have_common_neighbor(shown, built.task)

        return None, jax.vmap(of_network)(built.keys, variables, lengths)

    correct, apart = jax.lax.scan(one, None, jnp.arange(built.config.test_trials))[1]
    return FrozenTest(correct.mean(0), apart.mean(0), (correct & apart).sum(0) / apart.sum(0))


def _record(built: Built, variables: Any, key: Any, length: Any) -> tuple[Any, Any, GridState]:
    """Return a trial, its image, and the activity of one network at every step."""
    params = dataclasses.replace(built.task, shortest=length, longest=length)
    trial, image = curve_tracing.reset(key, params)
    recurrent, weights = _functions(built, variables)

    def one(state: Any, _: None) -> tuple[Any, Any]:
        state = recurrent.step(weights, state, image[None])
        return state, jax.tree.map(lambda x: x[0], state)

    states = jax.lax.scan(one, recurrent.start(image[None]), None, built.config.steps)[1]
    return trial, image, states


def _act(
    built: Built, rule: Rule, key: Any, variables: Any, shortest: Any, longest: Any
) -> tuple[Any, Any, Any, Any]:
    """Draw a trial and choose; return both, the reward, and whether the choice was correct."""
    params = dataclasses.replace(built.task, shortest=shortest, longest=longest)
    draw, choose = jax.random.split(key)
    trial, image = curve_tracing.reset(draw, params)
    decision = rule.act(choose, *_functions(built, variables), image[None])
    return trial, decision, *curve_tracing.step(trial, decision.action[0], params)


def _functions(built: Built, variables: Any) -> tuple[Any, Any]:
    fixed = {name: value for name, value in variables.items() if name != "params"}
    return as_recurrent(built.network, fixed), variables["params"]
