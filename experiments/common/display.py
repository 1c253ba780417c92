"""Names that figures and tables show for the identifiers of commands and stored results."""

import re
from pathlib import Path

NAMES = {
    "q_agrel": "Q-AGREL",
    "agrel": "AGREL",
    "reinforce": "REINFORCE",
    "node_perturbation": "node perturbation",
    "stochastic_units": "stochastic units",
    "feedback_alignment": "feedback alignment",
    "q_agrel_random_feedback": "Q-AGREL, random feedback",
    "kolen_pollack": "Kolen–Pollack",
    "sign_batchwise": "sign, batchwise",
    "sign_fixed": "sign, fixed",
    "output_layer_only": "output layer only",
}
"""The papers' names of rules and kinds of feedback; what is absent is shown as it is."""

_KNOWN = re.compile(rf"(?<![\w`])({'|'.join(NAMES)})(?![\w`])")


def shown(text: str) -> str:
    """Return ``text`` with every identifier of ``NAMES`` that is a word of its own replaced.

    >>> shown("q_agrel, batch 16, rate 0.1"), shown("`q_agrel`")
    ('Q-AGREL, batch 16, rate 0.1', '`q_agrel`')
    """
    return _KNOWN.sub(lambda match: NAMES[match[0]], text)


def dataset(name: str) -> str:
    """Return how an image set is called: an ``.npz`` file by its name, not its whole path.

    >>> dataset("/data/birds.npz"), dataset("mnist")
    ('birds', 'mnist')
    """
    return Path(name).stem if name.endswith(".npz") else name
