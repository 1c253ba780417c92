"""No dtype is promoted implicitly: the library's programs, traced but not run.

Not in the other tests: their references compute in float64 what the library does in float32.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qagrel_jax import networks, population, rules, tasks, training
from qagrel_jax.attention import attend
from qagrel_jax.curriculum import Curriculum
from qagrel_jax.layers import FEEDBACKS
from qagrel_jax.random_keys import root_key, root_keys
from qagrel_jax.recurrent import GridNet, as_recurrent
from qagrel_jax.tasks import curve_tracing, saccade, vectors

pytestmark = pytest.mark.usefixtures("folded_keys")

RULES = "q_agrel agrel backprop broadcast node_perturbation reinforce stochastic_units"
MEMORY = {name: rule.config for name, rule in rules.memory.RULES.items()}


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def make_trainer(rule, architecture, feedback="tied", curriculum=None):
    return training.make_trainer(
        rule,
        networks.make_network(architecture, 3, feedback=feedback),
        optax.sgd(0.1, momentum=0.9),
        image_shape=(8, 8, 2),
        num_classes=3,
        batch_size=4,
        curriculum=curriculum,
    )


def trace_training(*settings, **options):
    trainer = make_trainer(*settings, **options)
    images = jax.ShapeDtypeStruct((9, 8, 8, 2), np.uint8)
    labels = jax.ShapeDtypeStruct((9,), np.int32)
    order = jax.ShapeDtypeStruct((2, 2, 4), np.int32)
    active = jax.ShapeDtypeStruct((2,), bool)
    states = jax.eval_shape(trainer.init, root_keys(np.arange(2)))
    jax.eval_shape(trainer.run_steps, states, active, images, labels, order)


@pytest.mark.parametrize("rule", RULES.split())
def test_rules(rule):
    trace_training(getattr(rules, rule)(), "dense")


@pytest.mark.parametrize("architecture", ["conv", "locally_connected", "deep"])
def test_networks(architecture):
    trace_training(rules.q_agrel(), architecture)


@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_feedback_pathways(feedback):
    trace_training(rules.q_agrel(), "conv", feedback)


@pytest.mark.parametrize("curriculum", [None, pytest.param(Curriculum(), marks=pytest.mark.slow)])
def test_fitting(curriculum):
    """What runs between the epochs, too: evaluation, the best seeds' states."""
    images = np.zeros((9, 8, 8, 2), np.uint8)
    examples = training.Examples(images, np.arange(9, dtype=np.int32) % 3)
    trainer = make_trainer(rules.q_agrel(), "dense", curriculum=curriculum)
    run = training.start(trainer, root_keys(np.arange(2)))
    epochs = list(training.fit(trainer, run, examples, examples, epochs=2, patience=1))
    assert len(epochs) == 2


# sign_batchwise draws its weights in each pass, for which ``attend`` has no random numbers.
@pytest.mark.parametrize("feedback", [kind for kind in FEEDBACKS if kind != "sign_batchwise"])
def test_attention(feedback):
    network = networks.make_network("conv", 3, feedback=feedback)
    images = jax.ShapeDtypeStruct((2, 4, 4, 1), np.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    actions = jax.ShapeDtypeStruct((2,), np.int32)
    jax.eval_shape(lambda *given: attend(network, *given), variables, images, actions)


@pytest.mark.parametrize("order", ["index", "random"])
def test_the_curriculum(order):
    trace_training(rules.q_agrel(), "dense", curriculum=Curriculum(order=order))


@pytest.mark.parametrize("rule", MEMORY)
@pytest.mark.parametrize("task", tasks.TASKS)
def test_populations(task, rule):
    task = tasks.make_task(task)
    setup = population.Setup(
        task, task.params(), MEMORY[rule](inputs=task.inputs, actions=task.actions), task.criterion
    )

    def run(key):
        settings = population.Settings(*(jnp.full(3, x) for x in (0.1, 0.2)), jnp.ones(3, bool))
        networks = population.start(setup, key, jnp.arange(3), settings)
        return population.advance(setup, networks, jnp.int32(0), 5)

    jax.eval_shape(run, root_key(0))


@pytest.mark.parametrize("task", tasks.TASKS)
def test_tasks(task):
    task = tasks.make_task(task)

    def run(key):
        params = task.params()
        state, _ = task.reset(key, params)
        return task.step(key, state, jnp.int32(0), params)

    jax.eval_shape(run, root_key(0))


def test_the_saccade_tasks_curriculum():
    params = dataclasses.replace(saccade.Params(), curriculum=True, level=1)
    jax.eval_shape(lambda key: saccade.reset(key, params), root_key(0))


def test_vector_tasks():
    for make in (vectors.xor, vectors.count_ones, vectors.orientation):
        task = make()
        network = networks.ThreeLayer(task.num_actions, 4)
        trainer = population.make_online_trainer(
            rules.agrel(), network, optax.sgd(0.1), task, trials=2
        )
        keys = root_keys(np.arange(2))
        jax.eval_shape(lambda keys, t=trainer: t.advance(keys, t.init(keys), 0), keys)


@pytest.mark.parametrize("shared", [True, False])
def test_curve_tracing_by_relearnn(shared):
    params = curve_tracing.Params(9, 5, 3, 5, 1.2)
    network = GridNet(shared=shared)
    rule = rules.relearnn(steps=4, sweeps=2)

    def run(key):
        trial, image = curve_tracing.reset(key, params)
        recurrent = as_recurrent(network)
        variables = jax.jit(network.init)(key, recurrent.start(image[None]), image[None])
        fixed = {name: value for name, value in variables.items() if name != "params"}
        forward = as_recurrent(network, fixed)
        decision = rule.act(key, forward, variables["params"], image[None])
        reward, _ = curve_tracing.step(trial, decision.action[0], params)
        return rule.update(decision, reward[None])

    jax.eval_shape(run, root_key(0))
