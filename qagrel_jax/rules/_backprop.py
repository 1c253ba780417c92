"""Error-backpropagation: the supervised control.

Softmax cross-entropy, L = −log softmax(z)_label; the output error is softmax(z) − onehot(label) and
runs down the same pathways as Q-AGREL's feedback. With tied feedback ``grads`` is ∇L exactly. The
teacher tells *every* output unit its error; that is what a reward-based rule has to do without.

Reference:
  Rumelhart, Hinton & Williams (1986), Nature 323.
"""

import chex
import jax

from qagrel_jax.policies import greedy
from qagrel_jax.rules.base import Rule, one_step_rule


def backprop() -> Rule:
    """Error-backpropagation of the softmax cross-entropy, the papers' control.

    Returns:
      A ``Rule`` whose ``update`` takes labels int[batch] and returns ``(grads, loss [batch])``. Its
      ``act`` reports the greedy action; learning does not depend on it.
    """

    def teaching_signal(
        logits: chex.Array, action: chex.Array, label: chex.Array
    ) -> tuple[chex.Array, chex.Array]:
        del action
        target = jax.nn.one_hot(label, logits.shape[0], dtype=logits.dtype)
        return jax.nn.softmax(logits) - target, -jax.nn.log_softmax(logits)[label]

    return one_step_rule("backprop", greedy, teaching_signal, outcome="label")
