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


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "seed"), counted(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{number} {noun}{'s' * (number != 1)}"


IMAGE_SETS = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "tiny_imagenet100": "Tiny ImageNet (100 classes)",
}
"""Image sets as their authors write them; what is absent is shown as it is."""


def image_set(name: str) -> str:
    """Return an image set's name in figures and headings.

    >>> image_set("/data/birds.npz"), image_set("cifar10"), image_set("digits")
    ('birds', 'CIFAR-10', 'digits')
    """
    return IMAGE_SETS.get(name, identifier(name))


def identifier(name: str) -> str:
    """Return an image set's name as an identifier: of an ``.npz`` file its own, not the whole path.

    >>> identifier("/data/birds.npz"), identifier("mnist")
    ('birds', 'mnist')
    """
    return Path(name).stem if name.endswith(".npz") else name
