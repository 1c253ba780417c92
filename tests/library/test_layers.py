"""Layers: the way up is the textbook's, the way down runs through the feedback weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from qagrel_jax.layers import FEEDBACKS, Conv, Dense, LocallyConnected
from qagrel_jax.layers.feedback import with_feedback
from qagrel_jax.layers.kernels import feedback_kernels
from tests.combinations import every_value

LAYERS = {
    "dense": (Dense(4), (3, 5)),
    "conv_same": (Conv(4, padding="SAME"), (2, 5, 5, 3)),
    "conv_valid": (Conv(4, padding="VALID", strides=(2, 2)), (2, 7, 7, 3)),
    "local_same": (LocallyConnected(4, padding="SAME", strides=(2, 2)), (2, 5, 5, 3)),
    "local_valid": (LocallyConnected(4, padding="VALID"), (2, 5, 5, 3)),
}


def _make(name, feedback, **options):
    layer, shape = LAYERS[name]
    layer = layer.clone(feedback=feedback, num_actions=2, **options)
    inputs = jax.random.normal(jax.random.key(1), shape)
    return layer, jax.jit(layer.init)(jax.random.key(0), inputs), inputs


def _kernels(variables, feedback):
    kernel = variables["params"]["kernel"]
    down = feedback_kernels(variables["params"], variables, feedback)[()]
    return kernel, down * np.abs(kernel).mean() if feedback == "sign" else down


HERE = [f for f in FEEDBACKS if f not in ("sign_batchwise", "direct")]  # without more than a call


@pytest.mark.parametrize(("name", "feedback"), every_value(LAYERS, HERE))
def test_down_through_feedback_weights_onto_the_same_synapses(name, feedback):
    """A layer whose *forward* kernel is B gives the way down; its own the change of synapses."""
    layer, variables, inputs = _make(name, feedback)
    kernel, down = _kernels(variables, feedback)
    plain = layer.clone(feedback="tied")

    def up(kernel, inputs):
        return plain.apply({"params": {"kernel": kernel}}, inputs)

    @jax.jit
    def everything(variables, inputs):
        outputs, pathway = jax.vjp(lambda v, x: layer.apply(v, x), variables, inputs)
        cotangent = jax.random.normal(jax.random.key(2), outputs.shape)
        (below,) = jax.vjp(lambda x: up(jnp.asarray(down), x), inputs)[1](cotangent)
        (onto,) = jax.vjp(lambda w: up(w, inputs), kernel)[1](cotangent)
        return outputs, *pathway(cotangent), up(kernel, inputs), onto, below

    outputs, changes, below, outputs_too, onto, below_too = everything(variables, inputs)
    np.testing.assert_allclose(outputs, outputs_too, atol=1e-5)
    np.testing.assert_allclose(below, below_too, atol=1e-5)
    np.testing.assert_allclose(changes["params"]["kernel"], onto, atol=1e-5)
    if feedback == "kolen_pollack":
        np.testing.assert_array_equal(
            changes["params"]["feedback_kernel"], changes["params"]["kernel"]
        )
    if feedback == "random":
        assert "feedback_kernel" not in variables["params"]
        assert not np.allclose(variables["feedback"]["kernel"], kernel)


def test_tied_dense_is_flax_dense():
    inputs = jax.random.normal(jax.random.key(1), (3, 5))
    ours, flax = Dense(4), nn.Dense(4, use_bias=False)
    variables = jax.jit(ours.init)(jax.random.key(0), inputs)

    def loss(layer, v):
        return jnp.sum(jnp.sin(layer.apply(v, inputs)))

    a, b = (jax.grad(lambda v, layer=layer: loss(layer, v))(variables) for layer in (ours, flax))
    np.testing.assert_allclose(a["params"]["kernel"], b["params"]["kernel"], rtol=1e-6)


def test_tied_conv_is_flax_conv():
    inputs = jax.random.normal(jax.random.key(1), (2, 6, 6, 3))
    ours = Conv(4, strides=(2, 2))
    flax = nn.Conv(4, (3, 3), strides=(2, 2), use_bias=False)
    variables = jax.jit(ours.init)(jax.random.key(0), inputs)
    np.testing.assert_allclose(
        ours.apply(variables, inputs), flax.apply(variables, inputs), atol=1e-5
    )


def test_bias_is_off_by_default_and_learns_when_on():
    _, variables, _ = _make("dense", "tied")
    assert set(variables["params"]) == {"kernel"}
    for name in LAYERS:
        layer, variables, inputs = _make(name, "random", use_bias=True)

        @jax.jit
        def learn(variables, layer=layer, inputs=inputs):
            outputs, pathway = jax.vjp(lambda v: layer.apply(v, inputs), variables)
            return outputs, *pathway(jnp.ones_like(outputs))

        outputs, changes = learn(variables)
        # No unit shares its bias but those of a feature map, and none where kernels are not shared.
        shape = outputs.shape[1:] if name.startswith("local") else outputs.shape[-1:]
        expected = np.full(shape, outputs.size / np.prod(shape))
        np.testing.assert_allclose(changes["params"]["bias"], expected, rtol=1e-6)


def test_local_kernels_are_drawn_position_by_position():
    _, variables, _ = _make("local_valid", "tied")
    kernel = variables["params"]["kernel"]
    assert kernel.shape == (3, 3, 3, 3, 3, 4)
    assert len(np.unique(kernel)) == kernel.size
    big = jax.jit(LocallyConnected(64).init)(jax.random.key(0), jnp.zeros((1, 10, 10, 8)))
    # He: variance 2 / (inputs of one unit), whatever the number of positions.
    np.testing.assert_allclose(big["params"]["kernel"].var(), 2 / (9 * 8), rtol=0.02)


def test_forward_and_feedback_kernels_are_drawn_independently():
    for feedback in ("kolen_pollack", "random"):
        _, variables, _ = _make("dense", feedback)
        kernel, down = _kernels(variables, feedback)
        assert not np.isin(np.asarray(kernel), np.asarray(down)).any()


@pytest.mark.parametrize("feedback", ["random", "sign_fixed", "direct", "product"])
@pytest.mark.parametrize("name", ["dense", "conv_same", "local_same"])
def test_fixed_feedback_weights_that_were_left_behind_are_missed(name, feedback):
    layer, variables, inputs = _make(name, feedback)
    for collections in ({"params": variables["params"]}, {**variables, "feedback": {}}):
        with pytest.raises(ValueError, match=f"{feedback}.* give apply the collection 'feedback'"):
            layer.apply(collections, inputs)


def test_an_unknown_feedback_lists_the_valid_ones():
    with pytest.raises(ValueError, match="'magic'; valid: tied, kolen_pollack, random, sign"):
        _make("dense", "magic")


def test_with_feedback_of_any_bilinear_map():
    f = with_feedback(lambda x, w: jnp.sin(3.0) * x @ w)
    x, w, b = (jax.random.normal(jax.random.key(i), (3, 3)) for i in range(3))
    down, onto, onto_b = jax.grad(lambda *a: f(*a).sum(), argnums=(0, 1, 2))(x, w, b)
    ones = jnp.ones((3, 3))
    np.testing.assert_allclose(down, jnp.sin(3.0) * ones @ b.T, rtol=1e-5)
    np.testing.assert_allclose(onto, jnp.sin(3.0) * x.T @ ones, rtol=1e-5)
    np.testing.assert_array_equal(onto, onto_b)


def test_bfloat16_computes_low_and_keeps_float32_parameters():
    layer, variables, inputs = _make("dense", "kolen_pollack", dtype=jnp.bfloat16)
    assert layer.apply(variables, inputs).dtype == jnp.bfloat16
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
