"""Not a test: one update by every one-step rule on two devices, for ``test_sharding`` to start.

On a mesh as ``jax.make_mesh`` makes it, whose axes are explicit. Prints how far updates and errors
lie from those of one device, ``{rule: distance}``.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from qagrel_jax import make_network, rules
from tests.library.feedback_on_mesh import ACTIONS, Branches

NETWORKS = {
    "dense": make_network("dense", ACTIONS, hidden=(3,)),
    "deep": make_network("deep", ACTIONS),
    "kinds": Branches(),
}


def updated(name, network, mesh):
    """Return the update and the errors of a batch of eight that the devices of ``mesh`` divide."""
    rule = rules.make_rule(name)
    size = 8 if network is NETWORKS["deep"] else 4
    images = jax.random.uniform(jax.random.key(1), (8, size, size, 1))
    told = jnp.arange(8) % ACTIONS if rule.outcome == "label" else jnp.arange(8) / 8
    keys = {"params": jax.random.key(2), "feedback": jax.random.key(3)}
    variables = dict(jax.jit(network.init)(keys, images))
    params = variables.pop("params")

    def learn(params, images, told, key):
        def forward(params, images):
            rngs = {"feedback": jax.random.key(4)}
            return network.apply({"params": params, **variables}, images, rngs=rngs)

        return rule.update(rule.act(key, forward, params, images), told)

    if mesh is None:
        return jax.device_get(jax.jit(learn)(params, images, told, jax.random.key(5)))
    with jax.set_mesh(mesh):
        images = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
        params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
        return jax.device_get(jax.jit(learn)(params, images, told, jax.random.key(5)))


if __name__ == "__main__":
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    found = {}
    for name in sys.argv[2:]:
        network = NETWORKS[sys.argv[1]]
        pair = updated(name, network, None), updated(name, network, mesh)
        distances = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), *pair)
        found[name] = max(jax.tree.leaves(distances))
    print(json.dumps(found))
