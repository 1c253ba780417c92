"""Runs and states through other people's files: flax.serialization, orbax, .npz, .safetensors."""

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qagrel_jax import make_network, q_agrel, weights
from qagrel_jax.plain import from_plain, to_plain
from qagrel_jax.rules import augment, synapses
from qagrel_jax.training import fitting, make_trainer

EXAMPLES = fitting.Examples(
    np.random.default_rng(0).integers(0, 256, (24, 2, 2, 1), np.uint8), np.arange(24) % 3
)


@pytest.fixture(scope="module")
def trainer():
    network = make_network("conv", 3, feedback="random")
    optimizer = optax.sgd(0.1, momentum=0.9)
    return make_trainer(
        q_agrel(), network, optimizer, image_shape=(2, 2, 1), num_classes=3, batch_size=8
    )


def _start(trainer):
    return fitting.start(trainer, jax.random.split(jax.random.key(0), 2))


def _fit(trainer, run, epochs):
    *_, (last, _) = fitting.fit(trainer, run, EXAMPLES, EXAMPLES, epochs=epochs, patience=9)
    return to_plain(last)


def _by_flax(run, like, tmp_path):
    content = flax.serialization.to_bytes(to_plain(run))
    return from_plain(flax.serialization.from_bytes(to_plain(like), content), like)


def _by_orbax(run, like, tmp_path):
    checkpointer = pytest.importorskip("orbax.checkpoint").StandardCheckpointer()
    checkpointer.save(tmp_path / "run", to_plain(run))
    checkpointer.wait_until_finished()
    return from_plain(checkpointer.restore(tmp_path / "run", to_plain(like)), like)


def _by_weights(run, like, tmp_path):
    weights.save(tmp_path / "run.npz", run, {})
    return weights.load(tmp_path / "run.npz", like=like)[0]


def test_a_run_goes_on_to_the_bit_whoever_saved_it(trainer, tmp_path):
    expected = _fit(trainer, _start(trainer), 2)
    for run, _ in fitting.fit(trainer, _start(trainer), EXAMPLES, EXAMPLES, epochs=1, patience=9):
        saved = {
            way: way(run, _start(trainer), tmp_path) for way in (_by_flax, _by_orbax, _by_weights)
        }
    for loaded in saved.values():
        jax.tree.map(np.testing.assert_array_equal, _fit(trainer, loaded, 2), expected)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("feedback", synapses.FEEDBACK)
def test_augments_state_is_loaded_as_it_was(feedback, suffix, tmp_path):
    config = augment.AugmentConfig(inputs=4, feedback=feedback)

    def step(state):
        key = jax.random.key(3)
        return augment.step(key, config, state, jnp.array([1.0, 0, 0, 1]), 0.5, False)[0]

    state = step(step(augment.init(jax.random.key(1), config)))
    path = tmp_path / f"state{suffix}"
    weights.save(path, state, {"rule": "augment"})
    again, metadata = weights.load(path, like=augment.init(jax.random.key(2), config))
    assert metadata["rule"] == "augment"
    jax.tree.map(np.testing.assert_array_equal, again, state)
    jax.tree.map(np.testing.assert_array_equal, step(again), step(state))
    names, _ = weights.load(path)
    np.testing.assert_array_equal(names["weights"]["memory_q"], state.weights.memory_q)
    names["weights"]["memory_q"] += 1  # plain arrays: anyone may write to them
    other = augment.AugmentConfig(inputs=5, feedback=feedback)
    with pytest.raises(ValueError, match=r"does not fit: .weights.input_regular must be float32"):
        weights.load(path, like=augment.init(jax.random.key(2), other))
    with pytest.raises(ValueError, match=r"differ in .*memory, observation, q_previous"):
        weights.load(path, like={"weights": state.weights})


def test_loaded_parameters_are_usable_as_they_come(tmp_path):
    """A rule, an optimizer and a layer take them without conversion."""
    network, images = make_network("dense", 3, hidden=(4,)), jnp.ones((2, 3, 3, 1))
    variables = jax.jit(network.init)(jax.random.key(0), images)
    weights.save(tmp_path / "net.npz", variables, {})
    loaded, _ = weights.load(tmp_path / "net.npz")
    rule, optimizer = q_agrel(), optax.sgd(0.1)

    def learn(variables):
        decision = rule.act(jax.random.key(1), network.apply, variables, images)
        grads, _ = rule.update(decision, jnp.ones(2))
        updates, _ = optimizer.update(grads, optimizer.init(variables), variables)
        return optax.apply_updates(variables, updates)

    jax.tree.map(np.testing.assert_array_equal, learn(loaded), learn(variables))


@pytest.mark.parametrize(
    "leaf", [3, 2.5, True, np.ones(3), np.arange(2), np.int64(4), np.float16(0.5)]
)
def test_numbers_and_numpys_wider_kinds_come_back(leaf, tmp_path):
    plain = to_plain({"leaf": leaf})
    back = from_plain(plain, {"leaf": leaf})["leaf"]
    assert np.asarray(leaf).dtype == back.dtype
    np.testing.assert_array_equal(back, leaf)
    weights.save(tmp_path / "leaf.npz", {"leaf": np.asarray(leaf)}, {})
    again, _ = weights.load(tmp_path / "leaf.npz", like={"leaf": leaf})
    np.testing.assert_array_equal(again["leaf"], leaf)
    with pytest.raises(ValueError, match="must be complex128"):
        from_plain(plain, {"leaf": np.asarray(leaf, np.complex128)})


def test_another_structure_is_refused():
    like = {"a": jnp.ones(2), "key": jax.random.key(0)}
    with pytest.raises(ValueError, match="structure"):
        from_plain({"a": np.ones(2, np.float32)}, like)
    with pytest.raises(ValueError, match=r"\['a'\] must be float32\(2,\), got float64\(3,\)"):
        from_plain({"a": np.ones(3), "key": to_plain(like)["key"]}, like)
