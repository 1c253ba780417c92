"""Dropout in the papers' networks: which activity, how much of it, and only while learning."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from qagrel_jax import networks

# Of 8 × 8 pixels: the fraction left out, and the shape of what it is left out of.
PUBLISHED = {
    "dense": [],
    "conv": [(0.3, (2, 4, 4, 32)), (0.3, (2, 500))],
    "locally_connected": [(0.3, (2, 2, 2, 32)), (0.3, (2, 500))],
    "deep": [
        (0.3, (2, 4, 4, 64)),
        (0.3, (2, 2, 2, 128)),
        (0.8, (2, 1, 1, 128)),
        (0.3, (2, 500)),
    ],
}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("architecture", networks.ARCHITECTURES)
def test_rates_and_places_are_the_published_ones(architecture, train):
    network = networks.make_network(architecture, 10)
    images = jnp.zeros((2, 8, 8, 3))
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    found = []

    def note(call, arguments, options, context):
        if isinstance(context.module, nn.Dropout) and context.method_name == "__call__":
            assert context.module.deterministic == (not train)
            assert context.module.broadcast_dims == ()
            found.append((context.module.rate, arguments[0].shape))
        return call(*arguments, **options)

    def look(variables, key):
        with nn.intercept_methods(note):
            return network.apply(
                variables, images, train=train, rngs={"dropout": key}, mutable=["batch_stats"]
            )

    jax.eval_shape(look, variables, jax.random.key(1))
    assert found == PUBLISHED[architecture]
