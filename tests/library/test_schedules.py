"""Rules that are functions of the step: against the rule of each step in turn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qagrel_jax import make_policy, networks, rules, training
from qagrel_jax.curriculum import Curriculum
from qagrel_jax.population import make_online_trainer
from qagrel_jax.tasks import vectors
from qagrel_jax.training import step as steps

pytestmark = pytest.mark.usefixtures("folded_keys")

EPSILONS = (1.0, 0.0, 0.5, 0.0)
IMAGES = jax.random.randint(jax.random.key(0), (4, 8, 2, 2, 1), 0, 255, dtype=jnp.uint8)
LABELS = jax.random.randint(jax.random.key(1), (4, 8), 0, 3)
SIZES = {"image_shape": (2, 2, 1), "num_classes": 3, "batch_size": 8}
NETWORK = networks.make_network("dense", 3, hidden=(5,))


def _rule(step):
    epsilon = jnp.array(EPSILONS)[step]
    return rules.q_agrel(make_policy("epsilon_greedy", epsilon=epsilon))


def test_each_step_has_its_own_rule():
    optimizer = optax.sgd(0.5)
    trainer = training.make_trainer(_rule, NETWORK, optimizer, **SIZES)
    keys = jax.random.split(jax.random.key(2), 2)
    states = trainer.init(keys)
    found, metrics = trainer.run_batches(
        states,
        jnp.ones(2, bool),
        jnp.broadcast_to(IMAGES, (2, *IMAGES.shape)),
        jnp.broadcast_to(LABELS, (2, *LABELS.shape)),
    )
    train_step = jax.jit(steps.train_step, static_argnums=0)
    for seed, key in enumerate(keys):
        learner = steps.Learner(_rule(0), NETWORK, optimizer)
        state = steps.init_state(learner, key, (2, 2, 1), 3)
        for number, epsilon in enumerate(EPSILONS):
            rule = rules.q_agrel(make_policy("epsilon_greedy", epsilon=epsilon))
            state, of_step = train_step(
                learner._replace(rule=rule), state, IMAGES[number], LABELS[number]
            )
            np.testing.assert_allclose(metrics.correct[seed, number], of_step.correct)
            np.testing.assert_allclose(metrics.error[seed, number], of_step.error, rtol=1e-5)
        jax.tree.map(
            lambda ours, one, s=seed: np.testing.assert_allclose(ours[s], one, atol=1e-6),
            found.params,
            state.params,
        )


def test_each_online_trial_has_its_own_rule():
    task = vectors.xor()
    network = networks.ThreeLayer(2, 4)

    def trainer(rule, trials):
        return make_online_trainer(rule, network, optax.sgd(0.5), task, trials=trials)

    keys = jax.random.split(jax.random.key(0), 3)
    scheduled = trainer(_rule, 4)
    found, _ = scheduled.advance(keys, scheduled.init(keys), 0)
    one_by_one = scheduled.init(keys)
    for number, epsilon in enumerate(EPSILONS):
        rule = rules.q_agrel(make_policy("epsilon_greedy", epsilon=epsilon))
        one_by_one, _ = trainer(rule, 1).advance(keys, one_by_one, number)
    jax.tree.map(
        lambda ours, one: np.testing.assert_allclose(ours, one, atol=1e-6),
        found.params,
        one_by_one.params,
    )


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (rules.q_agrel, r"rule must be a Rule, got .*: q_agrel\(\) gives one"),
        ("q_agrel", r"rule must be a Rule, got 'q_agrel': q_agrel\(\) gives one"),
        (lambda: rules.q_agrel(), r"rule must be a function of \(step\), got one of \(\)"),
        (lambda step: "agrel", r"what rule returns for a step must be a Rule, got 'agrel'"),
        (lambda step: rules.agrel, r"what rule returns for a step must be a Rule, got "),
    ],
)
def test_what_gives_no_rule_is_refused(rule, says):
    with pytest.raises(TypeError, match=says):
        training.make_trainer(rule, NETWORK, optax.sgd(0.1), **SIZES)
    with pytest.raises(TypeError, match=says):
        make_online_trainer(rule, NETWORK, optax.sgd(0.1), vectors.xor(), trials=1)


def test_a_rule_of_probabilities_is_known_behind_a_schedule():
    def rule(step):
        return rules.agrel()

    with pytest.raises(ValueError, match="exploration must be 0 with rule 'agrel'"):
        training.make_trainer(rule, NETWORK, optax.sgd(0.1), curriculum=Curriculum(), **SIZES)


def test_a_rule_that_is_told_labels_may_follow_a_schedule():
    """It has no reward, and its errors are losses."""
    trainer = training.make_trainer(lambda step: rules.backprop(), NETWORK, optax.sgd(0.1), **SIZES)
    states = trainer.init(jax.random.split(jax.random.key(0), 1))
    _, metrics = trainer.run_batches(states, jnp.ones(1, bool), IMAGES[None], LABELS[None])
    assert metrics.reward is None and metrics.error.shape == (1, 4)
