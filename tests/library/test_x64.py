"""In float64 mode tasks keep their dtypes from step to step, and populations learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax import curriculum, environments, networks, population, rules, tasks
from qagrel_jax.tasks import TASKS, curve_tracing, vectors

pytestmark = pytest.mark.usefixtures("x64")


def kinds(tree):
    return jax.tree.map(lambda x: (x.dtype, x.shape), tree)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_can_be_scanned(name):
    task, params = TASKS[name], TASKS[name].params()

    def step(carry, key):
        state, timestep = task.step(key, carry[0], jnp.int32(0), params)
        return (state, timestep), timestep.reward

    keys = jax.random.split(jax.random.key(0), 12)
    start = jax.jit(lambda key: task.reset(key, params))(jax.random.key(1))
    assert (start[1].observation.dtype, start[1].reward.dtype) == (jnp.float32, jnp.float32)
    # A scan refuses a step that changes a dtype.
    end, _ = jax.jit(lambda start: jax.lax.scan(step, start, keys))(start)
    assert kinds(end) == kinds(start)
    integers = [x for x in jax.tree.leaves(start) if jnp.issubdtype(x.dtype, jnp.integer)]
    assert {x.dtype for x in integers} == {np.dtype(np.int32)}


@pytest.mark.parametrize("name", TASKS)
def test_test_trials_are_like_drawn_ones(name):
    task, params = TASKS[name], TASKS[name].params()
    drawn, tested = jax.eval_shape(
        lambda noise: (task.build(noise, params), task.test_trial(noise, jnp.int32(1), params)),
        jax.eval_shape(lambda: task.draw(jax.random.key(0), params)),
    )
    assert kinds(drawn) == kinds(tested)


@pytest.mark.parametrize("apart", [pytest.param(False, marks=pytest.mark.slow), True])
def test_curves_are_traced(apart):
    params = curve_tracing.Params(grid=7, max_length=4, shortest=2, longest=4, apart=apart)
    keys = jax.random.split(jax.random.key(0), 30)
    trials, images = jax.jit(jax.vmap(lambda key: curve_tracing.reset(key, params)))(keys)
    assert {x.dtype for x in trials} == {np.dtype(np.int32)} and images.dtype == jnp.float32
    for target, length in zip(np.asarray(trials.target), trials.length, strict=True):
        pixels = target[:length]
        assert (pixels >= 0).all() and (target[length:] == -1).all()
        if length > 2:
            rows, columns = np.divmod(pixels, 7)
            assert (abs(np.diff(rows)) + abs(np.diff(columns)) == 1).all()
    last = np.asarray(trials.target)[np.arange(30), np.asarray(trials.length) - 1]
    reward, correct = jax.vmap(lambda t, a: curve_tracing.step(t, a, params))(trials, last)
    assert reward.dtype == jnp.float32 and correct.all()


def test_vector_tasks_are_of_the_documented_dtypes():
    for task in (vectors.xor(), vectors.count_ones(), vectors.orientation()):
        pattern, seen = vectors.reset(jax.random.key(0), task)
        found = task.inputs, task.labels, pattern, seen, vectors.step(task, pattern, pattern)
        assert [x.dtype.name for x in found] == ["float32", "int32", "int32", "float32", "float32"]


def test_the_networks_parameters_are_of_double_precision():
    images = jnp.zeros((1, 8, 8, 1))
    made = [networks.make_network(name, 3) for name in networks.ARCHITECTURES]
    for network in (*made, networks.ThreeLayer(3, 4)):
        params = jax.eval_shape(network.init, jax.random.key(0), images)["params"]
        assert {x.dtype.name for x in jax.tree.leaves(params)} == {"float64"}, network


def test_a_curriculum_keeps_its_dtypes():
    plan, labels = curriculum.Curriculum(window=1), jnp.array([0, 1, 2])
    state = curriculum.start(jax.random.key(0), plan, 3)
    after = curriculum.update(plan, state, labels, labels == 0)
    assert kinds(after) == kinds(state)


@pytest.mark.parametrize(
    "name",
    [n if n == "saccade" else pytest.param(n, marks=pytest.mark.slow) for n in TASKS],
)
def test_augment_plays_every_task(name):
    environment = environments.from_task(TASKS[name])
    config = rules.augment.AugmentConfig(environment.inputs, actions=environment.actions)
    player = environments.begin(jax.random.key(0), config, environment)
    play = lambda p: environments.play(jax.random.key(1), config, p, environment, 3)[0]  # noqa: E731
    assert kinds(jax.eval_shape(play, player)) == kinds(player)


def test_a_population_learns():
    task = tasks.make_task("saccade")
    config = rules.augment.AugmentConfig(inputs=4)
    setup = population.Setup(task, task.params(), config, task.criterion)
    packed = population.Packed(setup, jax.random.key(0), networks=2, steps=8)
    before = kinds(packed.networks)
    packed.advance()
    assert kinds(packed.networks) == before
