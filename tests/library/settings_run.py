"""What a whole process does under JAX's settings: every rule, a trainer, a population.

``python -m tests.library.settings_run KEY ...`` prints what ``run`` returns for each kind of key.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from qagrel_jax import environments, networks, policies, population, rules, tasks, training
from qagrel_jax.random_keys import root_key
from qagrel_jax.rules.augment import AugmentConfig
from qagrel_jax.rules.recollect import RecollectConfig
from qagrel_jax.rules.workmate import WorkmateConfig

RULES = {
    "q_agrel": rules.q_agrel(),
    "agrel": rules.agrel(),
    "backprop": rules.backprop(),
    "broadcast": rules.broadcast(),
    "node_perturbation": rules.node_perturbation(),
    "reinforce": rules.reinforce(),
    "stochastic_units": rules.stochastic_units(),
}


def by_hand(rule, key):
    """Act and update once, float32 images and rewards."""
    network, images = networks.DenseNet(3, hidden=(4,)), jnp.ones((2, 5), jnp.float32)
    params = network.init(jax.random.fold_in(key, 0), images)
    decision = rule.act(jax.random.fold_in(key, 1), network.apply, params, images)
    told = np.array([0, 2]) if rule.outcome == "label" else np.array([1, 0], np.float32)
    grads, errors = rule.update(decision, told)
    return float(errors.sum() + sum(jnp.abs(g).sum() for g in jax.tree.leaves(grads)))


def trained(rule, key):
    """Two seeds, one of them stopped, for two epochs of a whole and an incomplete batch."""
    examples = training.Examples(
        np.random.default_rng(0).integers(0, 256, (6, 2, 2, 1), np.uint8),
        np.arange(6, dtype=np.int32) % 3,
    )
    trainer = training.make_trainer(
        rule,
        networks.DenseNet(3, hidden=(4,)),
        optax.adam(0.01),
        image_shape=(2, 2, 1),
        num_classes=3,
        batch_size=4,
    )
    run = training.start(trainer, jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(2)))
    run = run._replace(active=np.array([True, False]))
    *_, (run, record) = training.fit(trainer, run, examples, examples, epochs=2, patience=9)
    return float(record.error[0]), float(jnp.abs(run.states.params["Dense_0"]["kernel"]).sum())


def remembered(key):
    """Two AuGMEnT networks for a few steps."""
    task = tasks.make_task("saccade")
    setup = population.Setup(task, task.params(), AugmentConfig(inputs=4), task.criterion)
    packed = population.Packed(setup, key, [0.15, 0.15], [0.2, 0.2], steps=8)
    packed.advance()
    return float(np.abs(packed.networks.learner.weights.memory_q).sum())


def played(config, key):
    """A network of a rule with memory for a few steps of an environment."""
    environment = environments.from_task(tasks.make_task("saccade"))
    player = environments.begin(jax.random.fold_in(key, 0), config, environment)
    key = jax.random.fold_in(key, 1)
    player, steps = environments.play(key, config, player, environment, 40, record=True)
    assert (steps.terminated | steps.truncated).any()
    return float(np.abs(player.learner.memory).sum() + steps.rpe.sum())


def run(key):
    """Return a number for each thing that was done with random numbers from ``key``."""
    q_values = jnp.array([0.0, -jnp.inf, 1.0])
    results = {name: by_hand(rule, key) for name, rule in RULES.items()}
    results |= {f"trained {n}": trained(RULES[n], key) for n in ("q_agrel", "backprop")}
    results["remembered"] = remembered(key)
    for config in (AugmentConfig(inputs=4), RecollectConfig(inputs=4), WorkmateConfig(inputs=4)):
        results[f"played {type(config).__name__}"] = played(config, key)
    for name in policies.POLICIES:
        results[name] = int(policies.make_policy(name)(jax.random.fold_in(key, 5), q_values))
    return results


if __name__ == "__main__":
    kinds = {"pinned": root_key, "typed": jax.random.key, "legacy": jax.random.PRNGKey}
    print(json.dumps({kind: run(kinds[kind](0)) for kind in sys.argv[1:]}))
