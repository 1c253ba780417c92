"""Functions of one's own that JAX cannot compile are named in one line."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qagrel_jax import environments, greedy, q_agrel
from qagrel_jax.environments import Environment
from qagrel_jax.rules import augment, one_step_rule, recollect, workmate
from qagrel_jax.training import Learner, init_state, train_step
from qagrel_jax.update_statistics import exact_moments

UNCOMPILABLE = {
    "if": lambda x: x if x.sum() > 0 else -x,
    "NumPy": lambda x: jnp.asarray(np.sqrt(np.asarray(x))),
    "float": lambda x: x * float(x.sum()),
    "int": lambda x: x + jnp.zeros(9)[: int(x.sum())].sum(),
    "truth values for an index": lambda x: x[x > 0],
}
PARAMS, INPUTS = jnp.ones((2, 2)), jnp.ones((1, 2))


class Network(nn.Module):
    """Has an output for each of two actions, of which a function makes what it likes."""

    change: object

    @nn.compact
    def __call__(self, images):
        outputs = nn.Dense(2)(images.reshape(len(images), -1))
        return outputs if self.is_initializing() else self.change(outputs)


def train(network=None, **of_own):
    of_own = {
        "reward": lambda key, labels, actions: 1.0 * (labels == actions),
        "network": Network(lambda x: x) if network is None else network,
        **of_own,
    }
    learner = Learner(q_agrel(), optimizer=optax.sgd(1), **of_own)
    state = init_state(learner, jax.random.key(0), (1, 1, 1), 2)
    batch = jnp.zeros((2, 1, 1, 1), jnp.uint8), jnp.zeros(2, jnp.int32)
    jax.jit(train_step, static_argnums=0)(learner, state, *batch)


def act_and_learn(rule, forward=lambda w, x: x @ w):
    @jax.jit
    def learn(params):
        return rule.update(rule.act(jax.random.key(0), forward, params, INPUTS), jnp.ones(1))

    learn(PARAMS)


def play(reset=lambda x: x, step=lambda x: x):
    world = Environment(
        2,
        2,
        lambda key: (jnp.int32(0), reset(jax.random.uniform(key, (2,)))),
        lambda key, state, action: (
            state,
            jnp.ones(2),
            step(1.0 * action),
            jnp.bool_(True),
            jnp.bool_(False),
        ),
    )
    environments.trial(jax.random.key(0), q_agrel(), lambda w, x: x @ w, PARAMS, world, 3)


def moments(change):
    def reward(key, labels, actions):
        return change(1.0 * (labels == actions))

    params = {"out": {"kernel": PARAMS}}
    examples = INPUTS, jnp.zeros(1, int)

    def forward(params, x):
        return x @ params["out"]["kernel"]

    exact_moments(q_agrel(), jax.nn.softmax, forward, params, *examples, reward)


def choose(rule, change):
    if rule is augment:
        config = augment.AugmentConfig(inputs=1)
    elif rule is recollect:
        config = recollect.RecollectConfig(inputs=1)
    else:
        config = workmate.WorkmateConfig(inputs=1)

    def own(randomness, q_values, epsilon):
        return change(q_values).argmax(0)

    step = jax.jit(functools.partial(rule.step, choose=own))
    keys = jax.random.key(1) if rule is not workmate else (jax.random.key(1), jax.random.key(2))
    step(keys, config, rule.init(jax.random.key(0), config), jnp.ones(1), 0.0, False)


CALLS = {
    "choose of AuGMEnT": functools.partial(choose, augment),
    "choose of RECOLLECT": functools.partial(choose, recollect),
    "choose of WorkMATe": functools.partial(choose, workmate),
    "reward of a trainer": lambda f: train(reward=lambda key, labels, actions: f(1.0 * actions)),
    "reward of moments": moments,
    "correct": lambda f: train(correct=lambda labels, actions: f(1.0 * actions) > 0),
    "network": lambda f: train(Network(f)),
    "forward": lambda f: act_and_learn(q_agrel(), lambda w, x: f(x @ w)),
    "policy": lambda f: act_and_learn(q_agrel(lambda key, q_values: f(q_values).argmax())),
    "teaching_signal": lambda f: act_and_learn(
        one_step_rule("own", greedy, lambda outputs, action, reward: (f(outputs), reward))
    ),
    "environment.reset": lambda f: play(reset=f),
    "environment.step": lambda f: play(step=f),
}


@pytest.mark.parametrize("how", UNCOMPILABLE)
@pytest.mark.parametrize("call", CALLS)
def test_what_cannot_be_compiled_is_named(call, how):
    with pytest.raises(TypeError) as error:
        CALLS[call](UNCOMPILABLE[how])
    assert str(error.value) == (
        f"{call.split()[0]} cannot be compiled: use jnp.where for if, jnp for np, and no float() "
        "or int()"
    )


def test_a_module_given_as_forward_is_refused():
    network = nn.Dense(2)
    params = network.init(jax.random.key(0), INPUTS)["params"]
    with pytest.raises(TypeError, match="forward must be a function: lambda params, x"):
        q_agrel().act(jax.random.key(1), network, params, INPUTS)
