"""bfloat16 computes in bfloat16 and nowhere else; TensorFloat-32 on a CPU rounds every operand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qagrel_jax import layers, rules, training
from qagrel_jax.layers.precision import as_multiplied
from qagrel_jax.networks import make_network
from qagrel_jax.tasks import classification

pytestmark = pytest.mark.usefixtures("folded_keys")

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.integers(0, 256, (8, 5, 5, 1), np.uint8))


def _trainer(rule=None, optimizer=None):
    return training.make_trainer(
        rule or rules.q_agrel(),
        make_network("conv", 7, dtype=jnp.bfloat16),
        optimizer or optax.sgd(0.1, momentum=0.9),
        image_shape=(5, 5, 1),
        num_classes=7,
        batch_size=8,
    )


def _states(trainer):
    return trainer.init(jax.vmap(jax.random.key)(jnp.arange(1)))


def _is_program(x):
    return hasattr(x, "jaxpr") or hasattr(x, "eqns")


def _products(jaxpr):
    """Return the operands (dtype, shape) of every matrix product and convolution, however deep."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            found.append([(v.aval.dtype, v.aval.shape) for v in equation.invars])
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if _is_program(inner):
                found += _products(getattr(inner, "jaxpr", inner))
    return found


@pytest.mark.parametrize("rule", [rules.q_agrel(), rules.backprop()], ids=["q_agrel", "backprop"])
def test_what_is_in_bfloat16_and_what_is_not(rule):
    trainer = _trainer(rule)
    states = _states(trainer)
    arguments = (np.ones(1, bool), IMAGES, np.zeros(8, np.int32), np.arange(8)[None, None])
    jaxpr = jax.make_jaxpr(trainer.run_steps)(states, *arguments)
    of_read_out, of_the_rest = [], []
    for operands in _products(jaxpr.jaxpr):
        read_out = any(7 in shape for _, shape in operands)
        (of_read_out if read_out else of_the_rest).append({dtype for dtype, _ in operands})
    assert of_read_out and all(dtypes == {jnp.dtype("float32")} for dtypes in of_read_out)
    assert len(of_the_rest) >= 8 and all(dtypes == {jnp.bfloat16.dtype} for dtypes in of_the_rest)

    after, metrics = trainer.run_steps(states, *arguments)
    for x in jax.tree.leaves((after.params, after.model_state, after.opt_state, metrics)):
        assert x.dtype in (jnp.float32, jnp.int32)


def test_activity_stays_in_bfloat16_from_layer_to_layer():
    """Normalized, too, whose parameters are float32: or it would take twice the memory."""
    network = make_network("conv", 7, dtype=jnp.bfloat16)

    def activity(key):
        inputs = jnp.zeros((8, 5, 5, 1))
        keep = {"capture_intermediates": True, "mutable": ["intermediates"]}
        return network.apply(network.init(key, inputs), inputs, **keep)[1]["intermediates"]

    seen = jax.eval_shape(activity, jax.random.key(0))
    dtypes = {name: layer["__call__"][0].dtype for name, layer in seen.items() if "__" not in name}
    assert {name for name, dtype in dtypes.items() if dtype == jnp.float32} == {"Dense_1"}
    assert set(dtypes) >= {"Conv_0", "BatchNorm_0", "Conv_1", "BatchNorm_1", "Dense_0", "Dense_1"}


def test_master_weights_keep_what_bfloat16_would_lose():
    """Steps of 2⁻¹² of a weight vanish in bfloat16 (8 bits); they add up in the master weights."""
    trainer = _trainer(optimizer=optax.sgd(1e-5))
    states = _states(trainer)
    before = jax.tree.map(np.asarray, states.params)
    order = np.tile(np.arange(8), (1, 50, 1))
    after, _ = trainer.run_steps(states, np.ones(1, bool), IMAGES, np.zeros(8, np.int32), order)

    def moved(x, y, dtype):
        return np.mean(np.asarray(x).astype(dtype) != np.asarray(y).astype(dtype))

    kernel = "Dense_0"
    pair = before[kernel]["kernel"], after.params[kernel]["kernel"]
    assert moved(*pair, np.float32) > 0.3
    assert moved(*pair, jnp.bfloat16) < 0.05


def test_batchnorm_counts_in_float32():
    """Its running mean after one step is 0.01 of the float32 mean of the bfloat16 activity."""
    network = make_network("conv", 7, dtype=jnp.bfloat16)
    variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 5, 5, 1)))
    inputs = classification.normalize(IMAGES)
    options = {"train": True, "rngs": {"dropout": jax.random.key(1)}, "mutable": ["batch_stats"]}
    _, changed = jax.jit(lambda *given: network.apply(*given, **options))(variables, inputs)
    kernel = np.asarray(variables["params"]["Conv_0"]["kernel"].astype(jnp.bfloat16), np.float64)
    padded = np.pad(
        np.asarray(inputs.astype(jnp.bfloat16), np.float64), ((0, 0), (1, 1), (1, 1), (0, 0))
    )
    activity = np.zeros((8, 5, 5, 32))
    for i in range(3):
        for j in range(3):
            activity += padded[:, i : i + 5, j : j + 5] * kernel[i, j, 0]
    activity = np.asarray(jnp.asarray(np.maximum(activity, 0)).astype(jnp.bfloat16), np.float64)
    mean = changed["batch_stats"]["BatchNorm_0"]["mean"]
    assert mean.dtype == jnp.float32
    # Sums in bfloat16 would be off by per cents; here only single activities round differently.
    np.testing.assert_allclose(mean, 0.01 * activity.mean((0, 1, 2)), rtol=2e-4)


def _tf32(x):
    """Round to 10 bits after the point, ties to even, on the bits themselves."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    dropped, odd = bits & 0x1FFF, bits >> 13 & 1
    up = (dropped > 0x1000) | ((dropped == 0x1000) & (odd == 1))
    return ((((bits >> 13) + up) << 13).astype(np.uint32)).view(np.float32).astype(np.float64)


@pytest.mark.parametrize("feedback", ["tied", "kolen_pollack"])
def test_on_a_cpu_tensorfloat32_rounds_the_operands_of_all_three_products(feedback):
    layer = layers.Dense(6, feedback=feedback)
    keys = jax.random.split(jax.random.key(0), 3)
    inputs, cotangent = (
        jax.random.normal(k, s) for k, s in zip(keys, [(5, 7), (5, 6)], strict=False)
    )
    params = jax.jit(layer.init)(keys[2], inputs)["params"]
    up, down = params["kernel"], params.get("feedback_kernel", params["kernel"])

    def run(precision):
        with jax.default_matmul_precision(precision):
            outputs, back = jax.vjp(lambda p, x: layer.apply({"params": p}, x), params, inputs)
            grads, onto_inputs = back(cotangent)
        return outputs, onto_inputs, grads["kernel"]

    def expected(rounded):
        x, w, b, g = map(rounded, (inputs, up, down, cotangent))
        return x @ w, g @ b.T, x.T @ g

    for mine, reference in zip(run("tensorfloat32"), expected(_tf32), strict=True):
        np.testing.assert_allclose(mine, reference, atol=2e-6)
    exact = expected(lambda x: np.asarray(x, np.float64))
    for mine, reference in zip(run("float32"), exact, strict=True):
        np.testing.assert_allclose(mine, reference, atol=2e-6)
    assert max(abs(a - b).max() for a, b in zip(expected(_tf32), exact, strict=True)) > 1e-4


def test_only_float32_is_rounded_to_tensorfloat32():
    exact = 1 + 2.0**-20
    with jax.enable_x64(True), jax.default_matmul_precision("tensorfloat32"):
        single, double = jnp.float32(exact), jnp.float64(exact)
        assert float(as_multiplied(single)) == 1.0
        assert float(as_multiplied(double)) == exact
