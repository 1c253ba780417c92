"""Online training of one-step rules: against the same trials one by one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qagrel_jax import networks, rules
from qagrel_jax.population import make_online_trainer
from qagrel_jax.tasks import vectors

pytestmark = pytest.mark.usefixtures("folded_keys")

TASK = vectors.count_ones()
NETWORK = networks.ThreeLayer(TASK.num_actions, 4, "kolen_pollack", 1.0)


def expected_by_hand(logits):
    odds = np.exp(np.asarray(logits, float))
    odds /= odds.sum(1, keepdims=True)
    return odds[np.arange(len(odds)), TASK.labels].mean()


PLATEAU = optax.contrib.reduce_on_plateau(factor=0.5, patience=1)


@pytest.mark.parametrize(
    ("optimizer", "wants_error"),
    [
        (optax.sgd(0.1, momentum=0.5), False),  # its memory goes from trial to trial
        (optax.chain(optax.sgd(0.1), PLATEAU), True),
        (optax.MultiSteps(optax.sgd(0.1), 2), False),
    ],
    ids=["momentum", "plateau", "multi_steps"],
)
@pytest.mark.parametrize("rule", [rules.agrel(), rules.backprop()])
def test_many_trials_at_once_are_the_same_trials_one_by_one(rule, optimizer, wants_error):
    keys = jax.random.split(jax.random.key(0), 2)
    trainer = make_online_trainer(rule, NETWORK, optimizer, TASK, trials=3)
    learners, rewards = trainer.advance(keys, trainer.init(keys), 5)
    for network, key in enumerate(keys):
        learner = jax.tree.map(lambda x, n=network: x[n], trainer.init(keys))
        params, state = learner
        for number in range(5, 8):
            draw, choose = jax.random.split(jax.random.fold_in(key, number))
            pattern = int(jax.random.randint(draw, (), 0, len(TASK.labels)))
            decision = rule.act(choose, NETWORK.apply, params, TASK.inputs[pattern][None])
            right = TASK.labels[pattern]
            correct = (decision.action == right).astype(jnp.float32)
            told = right[None] if rule.outcome == "label" else correct
            grads, errors = rule.update(decision, told)
            error = (errors if rule.outcome == "label" else errors**2).mean()
            value = {"value": error} if wants_error else {}
            updates, state = optimizer.update(grads["params"], state, params["params"], **value)
            params = {"params": optax.apply_updates(params["params"], updates)}
        jax.tree.map(
            lambda ours, one, n=network: np.testing.assert_allclose(ours[n], one, atol=1e-6),
            learners.params,
            params,
        )
        expected = expected_by_hand(NETWORK.apply(params, TASK.inputs))
        np.testing.assert_allclose(rewards[network], expected, rtol=1e-5)


def test_no_optimizer_changes_fixed_feedback_weights():
    network = networks.ThreeLayer(TASK.num_actions, 4, "random", 1.0)
    keys = jax.random.split(jax.random.key(0), 2)
    trainer = make_online_trainer(
        rules.agrel(), network, optax.adamw(0.1, weight_decay=0.1), TASK, trials=3
    )
    start = trainer.init(keys)
    learners, _ = trainer.advance(keys, start, 0)
    fixed = {name: values for name, values in start.params.items() if name != "params"}
    assert jax.tree.leaves(fixed)
    for name, values in fixed.items():
        jax.tree.map(np.testing.assert_array_equal, learners.params[name], values)
    assert not np.allclose(*(jax.tree.leaves(of.params["params"])[0] for of in (start, learners)))


def test_another_task_may_be_tested():
    test = TASK._replace(labels=(TASK.labels + 1) % TASK.num_actions)
    keys = jax.random.split(jax.random.key(0), 2)
    trainer = make_online_trainer(rules.agrel(), NETWORK, optax.sgd(0.1), TASK, trials=1, test=test)
    own = make_online_trainer(rules.agrel(), NETWORK, optax.sgd(0.1), TASK, trials=1)
    learners, reward = trainer.advance(keys, trainer.init(keys), 0)
    same, other = own.advance(keys, own.init(keys), 0)
    jax.tree.map(np.testing.assert_array_equal, learners, same)
    assert (reward != other).all()


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"trials": 0}, ValueError, "trials must be at least 1, got 0"),
        ({"task": "xor"}, TypeError, "task"),
        ({"test": 3}, TypeError, "test"),
        ({"rule": "agrel"}, TypeError, "rule"),
        ({"rule": rules.relearnn()}, ValueError, "relearnn takes a Recurrent network"),
        ({"optimizer": optax.sgd}, TypeError, "optimizer must be a GradientTransformation"),
        ({"network": networks.ThreeLayer}, TypeError, "network must be a Module, got the class"),
        ({"network": "dense"}, TypeError, "network must be a Module"),
    ],
)
def test_bad_arguments_are_named(changes, error, says):
    given = {"rule": rules.agrel(), "network": NETWORK, "optimizer": optax.sgd(0.1), "task": TASK}
    with pytest.raises(error, match=says):
        make_online_trainer(**{**given, "trials": 1, **changes})


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([-1, 1, -1, 1], r"labels must be in \[0, 2\), got -1 at 0"),
        ([1, 2, 1, 2], r"labels must be in \[0, 2\), got 2 at 1"),
        ([0, 1], "a label for each pattern"),
    ],
)
def test_labels_that_are_no_actions_are_refused(labels, says):
    """Counted from the end, they once made up an expected reward."""
    task = vectors.VectorTask(jnp.eye(4), jnp.array(labels), 2)
    network = networks.ThreeLayer(2, 4)
    for tasks in ((task, None), (vectors.VectorTask(jnp.eye(4), jnp.zeros(4, int), 2), task)):
        with pytest.raises(ValueError, match=says):
            make_online_trainer(
                rules.agrel(), network, optax.sgd(0.1), tasks[0], trials=1, test=tasks[1]
            )
    with pytest.raises(ValueError, match=says):
        vectors.expected_reward(task, jnp.zeros((4, 2)))


class _Noisy(nn.Module):
    """Has all that is another thing in training: Dropout, and BatchNorm with its statistics."""

    @nn.compact
    def __call__(self, inputs, train):
        x = nn.Dropout(0.5, deterministic=not train)(nn.Dense(64)(inputs))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(x)
        return nn.Dense(TASK.num_actions)(x)


def test_networks_run_in_training_as_in_training():
    """One trial by hand: units are dropped, the statistics follow; tested as they are."""
    keys = jax.random.split(jax.random.key(0), 2)
    trainer = make_online_trainer(rules.agrel(), _Noisy(), optax.sgd(0.1), TASK, trials=1)
    before = trainer.init(keys)
    after, reward = trainer.advance(keys, before, 5)
    for n, key in enumerate(keys):
        draw, _ = jax.random.split(jax.random.fold_in(key, 5))
        pattern = TASK.inputs[int(jax.random.randint(draw, (), 0, len(TASK.labels)))]
        dense = {k: np.asarray(v[n]) for k, v in before.params["params"]["Dense_0"].items()}
        whole = np.asarray(pattern) @ dense["kernel"] + dense["bias"]
        # Of one example the mean is what BatchNorm saw: 0 or twice the unit's activity.
        seen = 2 * np.asarray(after.params["batch_stats"]["BatchNorm_0"]["mean"][n])
        dropped = np.isclose(seen, 0, atol=1e-6)
        assert 10 < dropped[np.abs(whole) > 1e-3].sum() < 54
        np.testing.assert_allclose(seen[~dropped], 2 * whole[~dropped], rtol=1e-4, atol=1e-5)
        own = jax.tree.map(lambda x, n=n: x[n], after.params)
        expected = expected_by_hand(_Noisy().apply(own, TASK.inputs, train=False))
        np.testing.assert_allclose(reward[n], expected, rtol=1e-4)


def test_feedback_drawn_in_each_pass_learns():
    network = networks.ThreeLayer(TASK.num_actions, 4, "sign_batchwise", 1.0)
    keys = jax.random.split(jax.random.key(0), 2)
    trainer = make_online_trainer(rules.agrel(), network, optax.sgd(0.1), TASK, trials=3)
    start = trainer.init(keys)
    learners, _ = trainer.advance(keys, start, 0)
    moved = jax.tree.map(lambda a, b: (a != b).any(), start.params, learners.params)
    assert any(jax.tree.leaves(moved))
