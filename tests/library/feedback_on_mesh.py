"""Not a test: every kind of feedback pathway on two devices, for ``test_sharding`` to start.

Prints how far the weights lie from those of one device, and how often a training step collects on
a device what the other holds, ``{mesh: [distance, gathers]}``.
"""

import json
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from qagrel_jax import rules, sharding, training
from qagrel_jax.layers import FEEDBACKS, Conv, Dense, LocallyConnected
from qagrel_jax.training import fitting

ACTIONS, SEEDS = 2, 2


class Branches(nn.Module):
    """On a layer of all, a branch of all three layers for every kind; outputs are their sum."""

    @nn.compact
    def __call__(self, images, train=False):
        total, images = 0, nn.relu(Conv(2, name="first")(images))
        for kind in FEEDBACKS:
            options = {"feedback": kind, "num_actions": ACTIONS, "expansion": 2}
            x = images
            for layer in (Conv, LocallyConnected):
                x = nn.relu(layer(2, **options, name=f"{kind}_{layer.__name__}")(x))
            x = x.reshape(x.shape[0], -1)
            total += Dense(ACTIONS, **options, name=f"{kind}_out")(x)
        return total


def trained(mesh):
    """Return the learners' weights after an epoch of two batches, and the gathers of a step."""
    images = np.random.default_rng(0).integers(0, 256, (16, 4, 4, 1), np.uint8)
    examples = fitting.Examples(images, (images.mean((1, 2, 3)) > 127).astype(np.int32))
    trainer = training.make_trainer(
        rules.q_agrel(),
        Branches(),
        optax.sgd(0.05),
        image_shape=(4, 4, 1),
        num_classes=ACTIONS,
        batch_size=8,
        mesh=mesh,
    )
    start = fitting.start(trainer, jax.vmap(jax.random.key)(jnp.arange(SEEDS)))
    rows = trainer.epoch_order(start.states, 0, 16).reshape(SEEDS, 2, 8)
    data = sharding.replicate((jnp.asarray(images), jnp.asarray(examples.labels)), mesh)
    program = trainer.run_steps.lower(
        start.states, sharding.by_seed(jnp.ones(SEEDS, bool), mesh), *data, rows
    ).compile()
    states, _ = program(start.states, sharding.by_seed(jnp.ones(SEEDS, bool), mesh), *data, rows)
    collected = re.findall("all-gather|all-to-all|collective-permute", program.as_text())
    return sharding.fetch(states.params), len(collected)


if __name__ == "__main__":
    alone, _ = trained(None)
    found = {}
    for shape in ((2, 1), (1, 2)):
        together, gathers = trained(sharding.make_mesh(*shape))
        apart = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), alone, together)
        found["x".join(map(str, shape))] = [max(jax.tree.leaves(apart)), gathers]
    print(json.dumps(found))
