"""What a rule's ``update`` is given: a decision of its own ``act``, with one action an example."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qagrel_jax import make_trainer, rules, training, weights
from qagrel_jax.networks import DenseNet
from qagrel_jax.rules.base import Decision
from qagrel_jax.training import Examples

NETWORK, INPUTS = DenseNet(num_actions=3, hidden=(4,)), jnp.ones((2, 5))
PARAMS = NETWORK.init(jax.random.key(0), INPUTS)["params"]
RULES = {
    name: getattr(rules, name)()
    for name in ("q_agrel", "agrel", "reinforce", "broadcast", "node_perturbation")
} | {"stochastic_units": rules.stochastic_units(), "backprop": rules.backprop()}
OWN_DECISION = ("broadcast", "node_perturbation", "stochastic_units")


def forward(params, inputs):
    return NETWORK.apply({"params": params}, inputs)


def decide(name, key=1):
    return RULES[name].act(jax.random.key(key), forward, PARAMS, INPUTS)


def outcome(name):
    return jnp.zeros(2, int) if RULES[name].outcome == "label" else jnp.ones(2)


@pytest.mark.parametrize("acted", RULES)
@pytest.mark.parametrize("learns", RULES)
def test_a_decision_from_which_another_rule_must_learn_is_refused(acted, learns):
    alike = acted == learns or not {acted, learns} & set(OWN_DECISION)
    decision = decide(acted)
    if alike:
        grads, errors = RULES[learns].update(decision, outcome(learns))
        assert errors.shape == (2,) and jnp.abs(grads["Dense_0"]["kernel"]).max() > 0
        return
    with pytest.raises(TypeError, match=r"decision must be a \w*Decision, got .*act of the same"):
        RULES[learns].update(decision, outcome(learns))


BAD_ACTIONS = {
    "out of range": ([3, 0], ValueError, r"decision.action must be in \[0, 3\), got 3"),
    "negative": ([-2, 0], ValueError, r"decision.action must be in \[0, 3\), got -2"),
    "one too few": (
        [1],
        ValueError,
        r"action must be \[batch\], here \[2\], got \[1\]",
    ),
    "a column": ([[1], [2]], ValueError, r"decision.action must be \[batch\]"),
    "floats": ([0.0, 1.0], TypeError, "decision.action must be whole numbers, got float32"),
}


@pytest.mark.parametrize("bad", BAD_ACTIONS)
@pytest.mark.parametrize("name", RULES)
def test_actions_put_into_a_decision_are_checked(name, bad):
    action, error, says = BAD_ACTIONS[bad]
    with pytest.raises(error, match=says):
        RULES[name].update(decide(name)._replace(action=jnp.array(action)), outcome(name))


@pytest.mark.parametrize("name", [n for n in RULES if RULES[n].outcome == "reward"])
def test_no_action_is_an_error_of_nan(name):
    """As a compiled policy has where Q values are NaN."""
    decision = decide(name)._replace(action=jnp.array([-1, 1]))
    assert np.isnan(RULES[name].update(decision, jnp.ones(2))[1]).tolist() == [True, False]


def test_broadcast_decides_by_a_type_of_its_own():
    assert not isinstance(decide("broadcast"), Decision)
    assert isinstance(decide("q_agrel"), Decision)


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">f8"])
def test_rewards_and_images_of_either_byte_order_are_read(dtype):
    ours, _ = RULES["q_agrel"].update(decide("q_agrel"), np.array([1, 0.5], dtype))
    theirs, _ = RULES["q_agrel"].update(decide("q_agrel"), jnp.array([1, 0.5], jnp.float32))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    images = np.arange(8).reshape(2, 2, 2, 1) / 8
    placed = training.place(Examples(images.astype(dtype), np.array([0, 1], ">i8")))
    np.testing.assert_array_equal(placed.images, images.astype(np.float32))
    assert placed.labels.tolist() == [0, 1]


def test_parameters_are_real_and_metadata_keeps_its_names(tmp_path):
    complex_ones = jax.tree.map(lambda leaf: leaf.astype(complex), PARAMS)
    with pytest.raises(TypeError, match=r"params.*must be floats, .* got complex64"):
        RULES["q_agrel"].act(jax.random.key(3), forward, complex_ones, INPUTS)
    with pytest.raises(ValueError, match="metadata's 'shapes' are those of the file"):
        weights.save(tmp_path / "net.npz", {"a": np.ones(2)}, {"shapes": "mine"})
    assert not list(tmp_path.iterdir())


def test_what_a_trainer_cannot_take_is_told_at_once():
    sizes = {"image_shape": (1, 5, 1), "num_classes": 3}
    with pytest.raises(ValueError, match="relearnn takes a Recurrent network, and a trainer does"):
        make_trainer(rules.relearnn(), NETWORK, optax.sgd(0.1), **sizes)
    trainer = make_trainer(rules.q_agrel(), NETWORK, optax.sgd(0.1), **sizes)
    with pytest.raises(TypeError, match=r"keys must be random keys \[seeds\]") as told:
        training.start(trainer, jax.random.key(4))
    assert "\n" not in str(told.value)
    with pytest.raises(TypeError, match=r"images of \w+ must be an array \[n, .*got 'generator'"):
        training.place(Examples((image for image in np.ones((2, 1, 5, 1))), [0, 1]))
