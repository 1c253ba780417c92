"""Arrays of other axes than documented: a ``ValueError`` names the argument and both shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax import make_task, policies
from qagrel_jax.layers import Conv, Dense, LocallyConnected
from qagrel_jax.recurrent import GridNet, as_recurrent
from qagrel_jax.rules import q_agrel, relearnn
from qagrel_jax.tasks import TASKS, classification, vectors
from qagrel_jax.update_statistics import exact_moments

PIXELS = np.zeros((2, 3, 3, 1), np.uint8)


def policy():
    policies.epsilon_greedy(jax.random.key(0), jnp.ones((2, 3)))


def layer(kind):
    network = kind(2, window=(3, 3))
    return lambda: network.init(jax.random.key(0), jnp.ones((3, 3, 1)))


def recurrent():
    as_recurrent(GridNet()).start(jnp.ones((2, 15, 15, 3)))


def statistics():
    network, x = Dense(2), jnp.ones((3, 4))
    params = jax.jit(network.init)(jax.random.key(0), x)
    chances = policies.softmax_probabilities
    exact_moments(q_agrel(), chances, network.apply, params, x, jnp.zeros(2, int))


def settled():
    grid, images = as_recurrent(GridNet()), jnp.ones((2, 15, 15, 4))
    network = grid._replace(read_out=lambda params, state: grid.read_out(params, state)[0])
    params = jax.jit(GridNet().init)(jax.random.key(0), grid.start(images), images)["params"]
    relearnn().act(jax.random.key(1), network, params, images)


CASES = {
    "policy": (policy, "q_values must be [actions], got [2, 3]"),
    "conv": (layer(Conv), "images must be [batch, height, width, channels], got [3, 3, 1]"),
    "local": (layer(LocallyConnected), "images must be [batch, height, width, channels], got [3"),
    "recurrent": (recurrent, "images must be [batch, height, width, 4], got [2, 15, 15, 3]"),
    "correct": (
        lambda: classification.correct(jnp.zeros(2), jnp.zeros((2, 1))),
        "actions must be [2], got [2, 1]",
    ),
    "pixels": (
        lambda: vectors.images(PIXELS[0], np.zeros(3, int), 2),
        "pixels must be [patterns, height, width, channels], got [3, 3, 1]",
    ),
    "labels": (
        lambda: vectors.images(PIXELS, np.zeros(3, int), 2),
        "labels must be [2], got [3]",
    ),
    "statistics": (statistics, "labels must be [3], got [2]"),
    "relearnn": (settled, "outputs must be [batch, actions], got [225]"),
}


@pytest.mark.parametrize("case", CASES)
def test_both_shapes_are_told(case):
    call, says = CASES[case]
    with pytest.raises(ValueError) as error:
        call()
    line = str(error.value).splitlines()[0]
    assert says in line


@pytest.mark.parametrize("name", TASKS)
def test_a_task_takes_one_action(name):
    task = make_task(name)
    state, _ = jax.jit(lambda key: task.reset(key, task.params()))(jax.random.key(0))
    with pytest.raises(ValueError, match=r"action must be \[\], got \[2\]: of one trial; jax"):
        task.step(jax.random.key(1), state, jnp.array([0, 1]), task.params())


def test_pixels_are_uint8():
    for call in (
        lambda: classification.normalize(jnp.zeros(2, jnp.int32)),
        lambda: vectors.images(PIXELS.astype(np.int32), np.zeros(2, int), 2),
    ):
        with pytest.raises(TypeError, match="must be uint8, got int32"):
            call()
