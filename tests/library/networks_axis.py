"""What the tests of the working-memory rules share: many networks along the last axis."""

import chex
import jax
import jax.numpy as jnp


def check_as_each_alone(step, config, of_each, together, observations):
    """Check that a step of all networks, by default, is that of each with its own part of the key.

    Args:
      step: of the rule.
      config: of all networks.
      of_each: the configuration of each alone.
      together: the state of all.
      observations: float[steps, inputs, networks]; reward and end are one for all.
    """
    number = len(of_each)
    alone = [jax.tree.map(lambda x, n=n: x[..., n], together) for n in range(number)]
    step = jax.jit(step)
    for t, observation in enumerate(jnp.asarray(observations, jnp.float32)):
        seen = jnp.float32(t % 3), jnp.bool_(t == 5)
        key = jax.random.key(t)
        together, activity = step(key, config, together, observation, *seen)
        assert activity.action.shape == (number,)
        for n, own in enumerate(jax.random.split(jax.random.clone(key), number)):
            alone[n], expected = step(own, of_each[n], alone[n], observation[:, n], *seen)
            assert activity.action[n] == expected.action
    for n in range(number):
        mine = jax.tree.map(lambda x, n=n: x[..., n], together)
        chex.assert_trees_all_close(mine, alone[n], atol=1e-5)
