"""The papers' networks: published sizes, the order of their parts, the spread of their weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax import networks

CONV = (3, 3)
# Image shape, and kernels from input to output.
PUBLISHED = {
    "dense": ((28, 28, 1), [(784, 1500), (1500, 1000), (1000, 500), (500, 10)]),
    "conv": (
        (28, 28, 1),
        [(*CONV, 1, 32), (*CONV, 32, 32), (14 * 14 * 32, 500), (500, 10)],
    ),
    # Valid padding: 28 -> 26 -> 12 places.
    "locally_connected": (
        (28, 28, 1),
        [(26, 26, *CONV, 1, 32), (12, 12, *CONV, 32, 32), (12 * 12 * 32, 500), (500, 10)],
    ),
    # Three poolings: 32 -> 16 -> 8 -> 4.
    "deep": (
        (32, 32, 3),
        [(*CONV, 3, 64), (*CONV, 64, 64), (*CONV, 64, 128)]
        + 4 * [(*CONV, 128, 128)]
        + [(4 * 4 * 128, 500), (500, 10)],
    ),
}


def _kernels(architecture, **options):
    shape, expected = PUBLISHED[architecture]
    network = networks.make_network(architecture, 10, **options)
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, *shape)))["params"]
    found = {name: layer["kernel"] for name, layer in params.items() if "kernel" in layer}
    for name in found:
        assert "bias" not in params[name]
    return found, expected


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_sizes_are_the_published_ones(architecture):
    found, expected = _kernels(architecture)
    assert sorted(kernel.shape for kernel in found.values()) == sorted(expected)


@pytest.mark.parametrize(("architecture", "sd"), [("dense", 0.01), ("conv", 0.005)])
def test_the_papers_kernels_have_one_spread(architecture, sd):
    found, _ = _kernels(architecture, initialization="paper")
    for kernel in found.values():
        few = 5 / np.sqrt(2 * kernel.size)  # five standard errors of a standard deviation
        np.testing.assert_allclose(kernel.std(), sd, rtol=few)


def test_he_kernels_keep_the_size_of_activity_but_for_the_output():
    found, _ = _kernels("dense", initialization="he")
    variances = [2 / 784, 2 / 1500, 2 / 1000, 0.01 / 500]
    for kernel, variance in zip(found.values(), variances, strict=True):
        np.testing.assert_allclose(kernel.var(), variance, rtol=10 / np.sqrt(2 * kernel.size))


def test_normalization_comes_after_the_relu():
    """Its input is never negative, so its running mean moves up wherever it moves."""
    network = networks.make_network("conv", 2)
    inputs = jax.random.uniform(jax.random.key(1), (4, 8, 8, 1))
    variables = jax.jit(network.init)(jax.random.key(0), inputs)
    _, changed = network.apply(
        variables,
        inputs,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.key(2)},
    )
    for norm in changed["batch_stats"].values():
        assert (norm["mean"] >= 0).all() and (norm["mean"] > 0).any()


def test_pooling_is_the_maximum_of_four():
    image = jnp.arange(20.0).reshape(1, 4, 5, 1)  # the odd column is left out
    np.testing.assert_array_equal(networks._max_pool(image)[0, ..., 0], [[6, 8], [16, 18]])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"architecture": "wide"}, "unknown architecture 'wide'; valid: dense, conv"),
        ({"feedback": "magic"}, "unknown feedback 'magic'; valid: tied"),
        ({"initialization": "zero"}, "unknown initialization 'zero'; valid: he, paper"),
        ({"num_actions": 0}, "num_actions must be at least 1, got 0"),
    ],
)
def test_a_bad_name_lists_the_valid_ones(options, says):
    with pytest.raises(ValueError, match=says):
        networks.make_network(**{"architecture": "dense", "num_actions": 2, **options})


def test_images_too_small():
    network = networks.make_network("deep", 2)
    with pytest.raises(ValueError, match=r"at least 8 x 8 pixels, got \(7, 9\)"):
        network.init(jax.random.key(0), jnp.zeros((1, 7, 9, 3)))


@pytest.mark.parametrize("architecture", networks.ARCHITECTURES)
def test_a_batch_of_no_images_has_no_outputs(architecture):
    network = networks.make_network(architecture, 3)
    images = jnp.zeros((0, 8, 8, 2))

    def outputs(key):
        variables = network.init(key, jnp.zeros((1, 8, 8, 2)))
        return network.apply(variables, images)

    assert jax.eval_shape(outputs, jax.random.key(0)).shape == (0, 3)
    three = networks.ThreeLayer(3, 4)
    variables = three.init(jax.random.key(0), jnp.zeros((1, 2)))
    assert three.apply(variables, jnp.zeros((0, 2))).shape == (0, 3)


@pytest.mark.parametrize("architecture", ["conv", "locally_connected"])
def test_sharing_weights_is_the_architectures_to_say(architecture):
    for shared in (True, False):
        with pytest.raises(TypeError, match="shared is no option: 'conv' has shared weights"):
            networks.make_network(architecture, 3, shared=shared)


def test_the_expansion_reaches_every_layer():
    network = networks.make_network("conv", 3, feedback="product", expansion=2)
    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
    found = {name: layer["mixing"].shape for name, layer in variables["feedback"].items()}
    units = {"Conv_0": 32, "Conv_1": 32, "Dense_0": 500, "Dense_1": 3}
    assert found == {name: (number, 2 * number) for name, number in units.items()}
