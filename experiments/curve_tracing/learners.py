"""Networks that trace curves, all in one compiled program: training and frozen tests.

What a network draws depends on the run's seed and its own number alone, and on no other network.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.curve_tracing.config import FIRST_LENGTH, CurveConfig
from qagrel_jax.policies import greedy, make_policy
from qagrel_jax.random_keys import root_key
from qagrel_jax.recurrent import GridNet, GridState, as_recurrent
from qagrel_jax.rules import relearnn
from qagrel_jax.tasks import curve_tracing

WEIGHTS, TESTS = 2**31 - 1, 2**31 - 2
"""What is folded into a network's key for these; training trials fold their number in."""


class Trials(NamedTuple):
    """Means over the training trials of one call, float[networks]."""

    correct: Any
    steps: Any  # of the activity
    settled: Any  # fraction of trials in which the activity reached the tolerance
    attention_residual: Any  # the accessory network's last change


class Learners(NamedTuple):
    """Compiled functions over all networks."""

    init: Callable[[], Any]  # () -> variables
    learn: Callable[..., tuple[Any, Trials]]  # (variables, first trial, lengths, learning)
    test: Callable[..., Any]  # (variables, number of the test, lengths) -> accuracy [networks]
    record: Callable[..., tuple]  # (variables of one, key, length) -> trial, image, activity


def make(config: CurveConfig) -> Learners:
    """Build the functions of a run.

    Args:
      config: the run's.

    Returns:
      ``Learners``.
    """
    network = GridNet(shared=config.shared, feedback=config.feedback)
    policy = make_policy("max_boltzmann", epsilon=config.exploration)
    settling = {"steps": config.steps, "tolerance": config.tolerance}
    rule = relearnn(policy, **settling, sweeps=config.sweeps, clip=config.clip)
    frozen = relearnn(greedy, **settling, sweeps=1)
    optimizer = optax.sgd(config.learning_rate)
    longest = max(config.test_lengths)
    task = curve_tracing.Params(config.grid, longest, 3, longest, config.reward)

    keys = jax.vmap(lambda n: jax.random.fold_in(root_key(config.seed), n))(
        jnp.arange(config.networks)
    )

    def init_one(key: Any) -> Any:
        images = jnp.zeros((1, config.grid, config.grid, network.colors))
        start = as_recurrent(network).start(images)
        return network.init(jax.random.fold_in(key, WEIGHTS), start, images)

    def functions(variables: Any) -> tuple[Any, Any]:
        fixed = {name: value for name, value in variables.items() if name != "params"}
        return as_recurrent(network, fixed), variables["params"]

    def act(rule: Any, key: Any, variables: Any, shortest: Any, longest: Any) -> tuple:
        params = dataclasses.replace(task, shortest=shortest, longest=longest)
        draw, choose = jax.random.split(key)
        trial, image = curve_tracing.reset(draw, params)
        decision = rule.act(choose, *functions(variables), image[None])
        return decision, *curve_tracing.step(trial, decision.action[0], params)

    def learn_one(key: Any, variables: Any, length: Any, learning: Any) -> tuple[Any, Trials]:
        shortest = jnp.minimum(length, FIRST_LENGTH + 1)
        decision, reward, correct = act(rule, key, variables, shortest, length)
        grads, _ = rule.update(decision, reward[None])
        updates, _ = optimizer.update(grads, optimizer.init(variables["params"]))
        updates = jax.tree.map(lambda u: jnp.where(learning, u, 0), updates)
        params = optax.apply_updates(variables["params"], updates)
        seen = decision.aux
        figures = Trials(
            correct.astype(jnp.float32),
            seen.steps[0].astype(jnp.float32),
            (seen.residual[0] <= config.tolerance).astype(jnp.float32),
            seen.attention_residual[0],
        )
        return {**variables, "params": params}, figures

    def learn(variables: Any, first: Any, lengths: Any, learning: Any) -> tuple[Any, Trials]:
        def one(variables: Any, number: Any) -> tuple[Any, Trials]:
            now = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            return jax.vmap(learn_one)(now, variables, lengths, learning)

        numbers = first + jnp.arange(config.test_every)
        variables, figures = jax.lax.scan(one, variables, numbers)
        return variables, jax.tree.map(lambda x: x.mean(0), figures)

    def test(variables: Any, number: Any, lengths: Any) -> Any:
        def one(_: None, trial: Any) -> tuple[None, Any]:
            def of_network(key: Any, variables: Any, length: Any) -> Any:
                key = jax.random.fold_in(jax.random.fold_in(key, TESTS), number)
                return act(frozen, jax.random.fold_in(key, trial), variables, length, length)[2]

            return None, jax.vmap(of_network)(keys, variables, lengths)

        return jax.lax.scan(one, None, jnp.arange(config.test_trials))[1].mean(0)

    def record(variables: Any, key: Any, length: Any) -> tuple[Any, Any, GridState]:
        params = dataclasses.replace(task, shortest=length, longest=length)
        trial, image = curve_tracing.reset(key, params)
        recurrent, weights = functions(variables)

        def one(state: Any, _: None) -> tuple[Any, Any]:
            state = recurrent.step(weights, state, image[None])
            return state, jax.tree.map(lambda x: x[0], state)

        states = jax.lax.scan(one, recurrent.start(image[None]), None, config.steps)[1]
        return trial, image, states

    return Learners(
        jax.jit(lambda: jax.vmap(init_one)(keys)), jax.jit(learn), jax.jit(test), jax.jit(record)
    )
