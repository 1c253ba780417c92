"""Error-backpropagation: the supervised control."""

import chex
import jax

from qagrel_jax.policies import greedy
from qagrel_jax.rules.base import Rule, one_step_rule


def backprop() -> Rule:
    r"""Error-backpropagation of the softmax cross-entropy: the papers' supervised control.

        L = −log p_t,        p = softmax(z),        ∂L/∂z_k = p_k − 1[k = t],

    with z the outputs and t the label. The output error runs down the same feedback pathways as
    Q-AGREL's feedback. With tied feedback ``grads`` is ∇L exactly. The teacher tells *every* output
    unit its error, which a reward-based rule has to do without.

    Returns:
      A ``Rule`` whose ``update`` takes labels int[batch] and returns ``(grads, loss [batch])``. Its
      ``act`` reports the greedy action; learning does not depend on it.

    Reference:
      Rumelhart, Hinton & Williams (1986), Nature 323.

    >>> import jax, jax.numpy as jnp
    >>> rule = backprop()
    >>> forward = lambda params, x: x @ params
    >>> decision = rule.act(jax.random.key(0), forward, jnp.zeros((3, 2)), jnp.ones((1, 3)))
    >>> grads, loss = rule.update(decision, jnp.array([1]))
    >>> grads[0].tolist()  # p − onehot(label)
    [0.5, -0.5]
    """

    def teaching_signal(
        logits: chex.Array, action: chex.Array, label: chex.Array
    ) -> tuple[chex.Array, chex.Array]:
        del action
        target = jax.nn.one_hot(label, logits.shape[0], dtype=logits.dtype)
        return jax.nn.softmax(logits) - target, -jax.nn.log_softmax(logits)[label]

    return one_step_rule("backprop", greedy, teaching_signal, outcome="label")
