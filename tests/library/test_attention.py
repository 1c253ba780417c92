"""Attention from a chosen unit down to the input, beside numbers worked out by hand."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax import layers, make_network
from qagrel_jax.attention import attend

W1 = np.array([[1.0, -1.0, 2.0], [2.0, -3.0, 1.0]])  # 2 inputs, 3 hidden units
W2 = np.array([[1.0, 2.0], [3.0, 4.0], [-1.0, 5.0]])  # 2 actions
B1 = np.array([[0.5, 1.0, -1.0], [2.0, 7.0, 3.0]])  # feedback weights, nothing like W
B2 = np.array([[10.0, 20.0], [30.0, 40.0], [50.0, 60.0]])


class Net(nn.Module):
    feedback: str = "tied"

    @nn.compact
    def __call__(self, x):
        x = nn.relu(layers.Dense(3, feedback=self.feedback, name="hidden")(x))
        return layers.Dense(2, feedback=self.feedback, name="output")(x)


def test_feedback_by_hand():
    """x = (1, 1): a = (3, −4, 3), so the middle hidden unit is silent and passes nothing on."""
    variables = {
        "params": {
            "hidden": {"kernel": jnp.array(W1), "feedback_kernel": jnp.array(B1)},
            "output": {"kernel": jnp.array(W2), "feedback_kernel": jnp.array(B2)},
        }
    }
    x = jnp.ones((2, 2))
    seen = attend(Net("kolen_pollack"), variables, x, jnp.array([1, 0]))
    assert list(seen.feedback) == list(seen.drive) == ["hidden", "output"]
    np.testing.assert_allclose(seen.drive["hidden"], [[3, -4, 3]] * 2)
    np.testing.assert_allclose(seen.outputs, [[0, 21]] * 2)
    np.testing.assert_allclose(seen.feedback["output"], [[0, 1], [1, 0]])
    np.testing.assert_allclose(seen.feedback["hidden"], [[20, 0, 60], [10, 0, 50]])
    # 20·(.5, 2) + 60·(−1, 3), and 10·(.5, 2) + 50·(−1, 3)
    np.testing.assert_allclose(seen.inputs, [[-50, 220], [-45, 170]])


def test_tied_feedback_at_the_input_is_the_gradient_of_the_chosen_q_value():
    network = make_network("conv", 3)
    images = jax.random.uniform(jax.random.key(1), (2, 6, 6, 1))
    variables = jax.jit(network.init)(jax.random.key(0), images)
    seen = jax.jit(partial(attend, network))(variables, images, jnp.array([2, 0]))
    chosen = jnp.array([[0, 0, 1.0], [1, 0, 0]])
    expected = jax.jit(jax.grad(lambda x: (network.apply(variables, x) * chosen).sum()))(images)
    np.testing.assert_allclose(seen.inputs, expected, atol=1e-6)
    assert list(seen.drive) == ["Conv_0", "Conv_1", "Dense_0", "Dense_1"]


def test_as_it_is_in_learning():
    """BatchNorm of the batch's own statistics, by hand; what changes of it is dropped."""

    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = layers.Dense(3, name="hidden")(x)
            x = nn.BatchNorm(use_running_average=not train, epsilon=0.0, name="norm")(x)
            return layers.Dense(2, name="output")(nn.Dropout(0.5, deterministic=not train)(x))

    x = jax.random.normal(jax.random.key(1), (4, 2))
    variables = jax.jit(partial(Normed().init, train=False))(jax.random.key(0), x)
    kernels = [np.asarray(variables["params"][name]["kernel"]) for name in ("hidden", "output")]
    actions, rngs = jnp.array([1, 0, 1, 1]), {"dropout": jax.random.key(2)}
    seen = attend(Normed(), variables, x, actions, train=True, rngs=rngs)
    hidden = np.asarray(x) @ kernels[0]
    normed = (hidden - hidden.mean(0)) / hidden.std(0)
    mask = np.asarray(_mask(Normed(), variables, x, rngs))
    passed = 2 * mask * kernels[1].T[np.asarray(actions)]
    # Down through BatchNorm: (ȳ − mean ȳ − y · mean(y ȳ)) / sd.
    expected = (passed - passed.mean(0) - normed * (normed * passed).mean(0)) / hidden.std(0)
    np.testing.assert_allclose(seen.outputs, 2 * (mask * normed) @ kernels[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(seen.feedback["hidden"], expected, rtol=1e-4, atol=1e-5)


def _mask(network, variables, x, rngs):
    """Which units dropout keeps: those whose outgoing synapses the outputs depend on."""

    def outputs(output_kernel):
        params = {**variables["params"], "output": {"kernel": output_kernel}}
        changed = {**variables, "params": params}
        return network.apply(changed, x, train=True, rngs=rngs, mutable=["batch_stats"])[0]

    through = jax.jacobian(outputs)(variables["params"]["output"]["kernel"])  # [batch, 2, 3, 2]
    return through[:, 0, :, 0] != 0


def test_one_action_an_example():
    variables = jax.jit(Net().init)(jax.random.key(0), jnp.ones((2, 2)))
    with pytest.raises(ValueError, match=r"actions must be \[batch\], here \[2\], got \[\]"):
        attend(Net(), variables, jnp.ones((2, 2)), jnp.array(1))


def test_a_cell_may_return_a_tuple():
    """q = 3 w h with h = 2 x: the cell's units get 3 w from the output, its input 2 · 3 w."""

    class Cell(nn.Module):
        @nn.compact
        def __call__(self, x):
            kernel = self.param("kernel", nn.initializers.constant(2.0), ())
            return kernel * x, 3 * kernel * x

    class Own(nn.Module):
        @nn.compact
        def __call__(self, x):
            h, _ = Cell(name="cell")(x)
            return layers.Dense(1, name="output")(3 * h)

    variables = {"params": {"cell": {"kernel": jnp.array(2.0)}, "output": {"kernel": jnp.eye(1)}}}
    found = attend(Own(), variables, jnp.ones((1, 1)), jnp.zeros(1, int))
    np.testing.assert_allclose(found.feedback["cell"], [[[3.0]], [[0.0]]])
    np.testing.assert_allclose(found.inputs, [[6.0]])


def test_a_layer_that_runs_several_times_is_numbered():
    """x = (1, 2), a = W x each time: of W W W x the cotangents are 1, W and W W, transposed."""

    class Own(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = layers.Dense(2, name="again")
            return layer(layer(layer(x)))

    kernel = np.array([[1.0, 2.0], [3.0, 5.0]])
    variables = {"params": {"again": {"kernel": jnp.array(kernel)}}}
    seen = attend(Own(), variables, jnp.array([[1.0, 2.0]]), jnp.array([1]))
    assert list(seen.drive) == list(seen.feedback) == ["again", "again:2", "again:3"]
    for times, name in enumerate(seen.drive):
        drive = np.array([1, 2]) @ np.linalg.matrix_power(kernel, times + 1)
        np.testing.assert_allclose(seen.drive[name], [drive])
        down = np.linalg.matrix_power(kernel, 2 - times)[:, 1]
        np.testing.assert_allclose(seen.feedback[name], [down])


def test_actions_may_be_a_list_and_are_named_where_they_are_none():
    network, x = layers.Dense(2), jnp.ones((1, 3))
    variables = {"params": {"kernel": jnp.arange(6.0).reshape(3, 2)}}
    np.testing.assert_array_equal(attend(network, variables, x, [1]).inputs, [[1, 3, 5]])
    with pytest.raises(TypeError, match="actions must be whole numbers, got float32"):
        attend(network, variables, x, jnp.ones(1))
    for actions in (1, [0, 1], [[1]]):
        with pytest.raises(ValueError, match=r"actions must be \[batch\], here \[1\], got \["):
            attend(network, variables, x, actions)


def test_layers_are_in_the_order_of_the_forward_pass():
    network = make_network("dense", 2, hidden=(3,) * 11)
    images = jnp.ones((1, 2, 2, 1))
    seen = attend(network, network.init(jax.random.key(0), images), images, jnp.array([0]))
    assert list(seen.drive) == list(seen.feedback) == [f"Dense_{i}" for i in range(12)]


def test_from_a_unit_that_is_not_there_comes_no_feedback():
    """Whatever its number: -1 is not the last unit."""
    variables = {"params": {"kernel": jnp.arange(6.0).reshape(3, 2)}}
    seen = attend(layers.Dense(2), variables, jnp.ones((4, 3)), jnp.array([2, -1, 3, 0]))
    np.testing.assert_array_equal(seen.inputs, [[0] * 3, [0] * 3, [0] * 3, [0, 2, 4]])


def test_options_reach_the_network():
    class Own(nn.Module):
        @nn.compact
        def __call__(self, x, gain=1.0):
            return gain * layers.Dense(2, name="output")(x)

    variables = {"params": {"output": {"kernel": jnp.arange(6.0).reshape(3, 2)}}}
    seen = attend(Own(), variables, jnp.ones((1, 3)), [1], gain=2.0)
    np.testing.assert_array_equal(seen.outputs, [[12, 18]])
    np.testing.assert_array_equal(seen.inputs, [[2, 6, 10]])


def test_what_cannot_be_differentiated_is_refused():
    class Pair(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = layers.Dense(2, name="output")(x)
            return y, y

    kernel = {"kernel": jnp.ones((3, 2))}
    with pytest.raises(TypeError, match=r"network must return outputs .*, got tuple"):
        attend(Pair(), {"params": {"output": kernel}}, jnp.ones((1, 3)), [1])
    with pytest.raises(TypeError, match="inputs must be floats, got int32"):
        attend(layers.Dense(2), {"params": kernel}, jnp.ones((1, 3), jnp.int32), [1])
