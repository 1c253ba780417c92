"""Not a test: a small training run on a mesh, for ``test_sharding`` to start as a process.

python tests/library/sharded_run.py OUT SEEDSxBATCH [HOST:PORT PROCESSES PROCESS]
"""

import re
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

from qagrel_jax import rules, sharding, training
from qagrel_jax.data import streaming
from qagrel_jax.layers import patches
from qagrel_jax.networks import ConvNet
from qagrel_jax.training import fitting

SEEDS = 4


def small_trainer(mesh=None, seeds_by=None):
    return training.make_trainer(
        rules.q_agrel(),
        ConvNet(2),
        optax.sgd(0.01, momentum=0.9),
        image_shape=(4, 4, 1),
        num_classes=2,
        batch_size=8,
        evaluation_batch=20,
        mesh=mesh,
        seeds_by=seeds_by,
    )


def small_run(mesh=None, streamed=False):
    """Train four seeds of a small convolutional net for two epochs; return the last ``Fit``."""
    random = np.random.default_rng(0)
    # The incomplete last batch, of 3, is one that four devices cannot divide.
    images = random.integers(0, 256, (43, 4, 4, 1), np.uint8)
    examples = fitting.Examples(
        streaming.HostImages(images) if streamed else images,
        (images.mean((1, 2, 3)) > 127).astype(np.int32),
    )
    trainer = small_trainer(mesh)
    run = fitting.start(trainer, jax.vmap(jax.random.key)(jnp.arange(SEEDS)))
    for last in fitting.fit(trainer, run, examples, examples, epochs=2, patience=9):
        run, record = last
    return run, record


def gathers(mesh, seeds_by):
    """Return how often a compiled training step collects on a device what others hold."""
    trainer = small_trainer(mesh, seeds_by)
    states = trainer.init(jax.vmap(jax.random.key)(jnp.arange(SEEDS)))
    examples = jnp.zeros((40, 4, 4, 1), jnp.uint8), jnp.zeros(40, jnp.int32)
    program = trainer.run_steps.lower(
        states,
        sharding.by_seed(jnp.ones(SEEDS, bool), mesh),
        *sharding.replicate(examples, mesh),
        trainer.epoch_order(states, 0, 40).reshape(SEEDS, 5, 8),
    )
    return len(re.findall("all-gather|all-to-all|collective-permute", program.compile().as_text()))


def check_places(mesh):
    """Assert that each device holds its part of what is divided, and all of what is not."""
    seeds, parts = mesh.shape["seeds"], mesh.shape["batch"]
    numbers = np.arange(3 * SEEDS).reshape(SEEDS, 3)
    for array in (numbers, jnp.asarray(numbers), jax.vmap(jax.random.key)(jnp.arange(SEEDS))):
        for placed, here in (
            (sharding.by_seed(array, mesh), SEEDS // seeds),
            (sharding.replicate(array, mesh), SEEDS),
        ):
            assert {len(shard.data) for shard in placed.addressable_shards} == {here}
    np.testing.assert_array_equal(sharding.fetch(sharding.by_seed(numbers, mesh)), numbers)

    for batch, here in ((8, 8 // parts), (3, 3)):

        @jax.jit
        @partial(
            jax.shard_map,
            mesh=mesh,
            in_specs=PartitionSpec("seeds"),
            out_specs=PartitionSpec("seeds"),
            axis_names={"seeds"},
            check_vma=False,
        )
        def work(x, batch=batch):
            return sharding.constrain_batch(jnp.sin(x[:, None] + jnp.ones((1, batch)))[0], mesh)[
                None
            ]

        placed = work(sharding.by_seed(jnp.arange(1.0 * seeds), mesh))
        assert placed.shape == (seeds, batch)
        assert {shard.data.shape for shard in placed.addressable_shards} == {(1, here)}


def arrays(run, record):
    """Return everything that is to be equal, on the host."""
    states = run.states._replace(key=jax.random.key_data(run.states.key))
    return jax.tree.leaves(sharding.fetch((states, record)))


if __name__ == "__main__":
    out, shape, *several = sys.argv[1:]
    if several:
        jax.distributed.initialize(several[0], int(several[1]), int(several[2]))
    mesh = sharding.make_mesh(*map(int, shape.split("x")))
    patches.CACHED_NUMBERS = 1  # so that a part of a batch is many groups of images
    check_places(mesh)
    found = {}
    if not several:
        found = {f"gathers_{seeds_by}": gathers(mesh, seeds_by) for seeds_by in ("map", "vmap")}
    for streamed in (False, True):
        run, record = small_run(mesh, streamed)
        kernel = jax.tree.leaves(run.states.params)[0]
        assert len(kernel.sharding.device_set) == len(mesh.devices.ravel())
        # Each device holds its own seeds' kernels, no more.
        assert kernel.addressable_shards[0].data.shape[0] == SEEDS // mesh.shape["seeds"]
        found |= {f"{streamed}_{i}": x for i, x in enumerate(arrays(run, record))}
    if jax.process_index() == 0:
        np.savez(out, **found)
