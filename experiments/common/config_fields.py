"""What an image experiment is: a frozen record of settings, checked before anything runs."""

import re
from dataclasses import dataclass

from experiments.common import fields
from experiments.common.cli import UserError
from experiments.common.names import (
    ARCHITECTURES,
    CONTROL_RULES,
    CURRICULA,
    CURRICULUM_OUTPUTS,
    FEEDBACK_ALIASES,
    FEEDBACK_INITS,
    FEEDBACKS,
    INITIALIZATIONS,
    LAST_BATCH,
    OF_PROBABILITIES,
    OPTIMIZERS,
    POLICIES,
    PRECISIONS,
    PROTOCOLS,
    REWARDS,
    RULES,
    SEEDS_BY,
    TRAINED_LAYERS,
)

_NETWORK, _RULE, _CHOICE = "the network", "the rule", "choices and rewards"
_FEEDBACK = "the feedback pathway"
_CURRICULUM = "the class curriculum (a variant)"
_LEARNING, _STOPPING, _COMPUTING = "learning", "data split and stopping", "seeds and computation"


@dataclass(frozen=True)
class Config:
    """One experiment. Every field is also an option of ``python -m experiments.train``."""

    name: str
    dataset: str = fields.text(
        "digits, a TFDS name, a folder in the data dir, or an .npz file of arrays (README, Data)",
        group="the images",
    )
    architecture: str = fields.choice(ARCHITECTURES, "layers", group=_NETWORK)
    hidden: tuple[int, ...] | None = fields.number(
        1,
        10**6,
        "units of the dense network's layers, e.g. 300,200,100; none: the papers'",
        group=_NETWORK,
        default=None,
    )
    rules: tuple[str, ...] = fields.choices(
        "rule", RULES + CONTROL_RULES, "learning rules", group=_RULE, option="--rule", default=RULES
    )
    feedback: str = fields.choice(
        FEEDBACKS,
        "feedback pathway",
        aliases=FEEDBACK_ALIASES,
        group=_FEEDBACK,
        default="tied",
    )
    feedback_init: str = fields.choice(
        FEEDBACK_INITS,
        "feedback weights are drawn as the layer's kernel, or by He et al.",
        group=_FEEDBACK,
        default="kernel",
    )
    feedback_scale: float = fields.number(
        0,
        1e9,
        "factor on feedback weights that are drawn, and on those of the sign kinds",
        open_low=True,
        group=_FEEDBACK,
        default=1.0,
    )
    feedback_rate: float = fields.number(
        0,
        1e9,
        "learning rate of feedback weights, as a multiple of the forward weights'",
        group=_FEEDBACK,
        default=1.0,
    )
    feedback_l2: float | None = fields.number(
        0,
        1e9,
        "c in the penalty c·ΣB² on feedback weights; none: as --l2",
        group=_FEEDBACK,
        default=None,
    )
    feedback_delay: int = fields.number(
        0, 10**9, "epochs before feedback weights begin to learn", group=_FEEDBACK, default=0
    )
    angle_images: int = fields.number(
        0,
        10**6,
        "monitored images on which each epoch the update is compared with the true gradient, "
        "where feedback is not tied; 0: none",
        group=_FEEDBACK,
        default=256,
    )
    initialization: str = fields.choice(
        INITIALIZATIONS,
        "how kernels are drawn",
        group=_NETWORK,
        default="he",
        former="initialisation",
    )
    policy: str = fields.choice(
        POLICIES,
        "action selection of q_agrel, broadcast, node_perturbation",
        group=_CHOICE,
        default="max_boltzmann",
    )
    epsilon: float = fields.number(0, 1, "probability of exploring", group=_CHOICE, default=0.02)
    temperature: float = fields.number(
        0, 1e9, "softmax temperature", open_low=True, group=_CHOICE, default=1.0
    )
    reward: str = fields.choice(
        REWARDS,
        "which choices are rewarded: correct ones, by the rewards of others in the batch, or all",
        group=_CHOICE,
        default="right",
    )
    reward_right: float = fields.number(
        -1e9, 1e9, "the reward of a correct choice", group=_CHOICE, default=1.0
    )
    reward_wrong: float = fields.number(
        -1e9,
        1e9,
        "of an incorrect choice; 1-c and -c are equivalent to Q values that start at c",
        group=_CHOICE,
        default=0.0,
    )
    trained_layers: str = fields.choice(
        TRAINED_LAYERS,
        "layers whose weights learn; the others stay as they were initialized",
        group=_LEARNING,
        default="all",
    )
    positive_gain: float = fields.number(
        0,
        1e9,
        "weighs positive reward-prediction errors of q_agrel",
        open_low=True,
        group=_RULE,
        default=1.0,
    )
    noise_sd: float = fields.number(
        0,
        1e9,
        "of the units of node_perturbation and stochastic_units",
        open_low=True,
        group=_RULE,
        default=0.1,
    )
    broadcast_strength: float = fields.number(
        -1e9,
        1e9,
        "what broadcast gives hidden units in place of attention",
        group=_RULE,
        default=1.0,
    )
    optimizer: str = fields.choice(OPTIMIZERS, "of optax", group=_LEARNING, default="sgd")
    learning_rate: float = fields.number(
        0, 1e9, "step size", open_low=True, group=_LEARNING, default=0.1
    )
    halve_every: int = fields.number(
        0, 10**9, "halve the learning rate so often, epochs; 0: never", group=_LEARNING, default=100
    )
    l2: float = fields.number(
        0, 1e9, "c in the penalty c·Σw² on kernels", group=_LEARNING, default=0.0
    )
    weight_decay: float = fields.number(
        0,
        1,
        "fraction of each kernel, feedback kernels too, that decays in a step, apart from the "
        "optimizer's update",
        group=_LEARNING,
        default=0.0,
    )
    weight_decay_epochs: int = fields.number(
        0,
        10**9,
        "over which that fraction falls to 0, as half a cosine; 0: it stays",
        group=_LEARNING,
        default=0,
    )
    batch_size: int = fields.number(1, 10**9, "examples a step", group=_LEARNING, default=128)
    last_batch: str = fields.choice(
        LAST_BATCH,
        "the incomplete last batch of an epoch is trained on (keep) or left out (drop)",
        group=_LEARNING,
        default="keep",
    )
    epochs: int = fields.number(1, 10**9, "at most", group=_STOPPING, default=500)
    patience: int = fields.number(
        1, 10**9, "stop after so many epochs without a gain", group=_STOPPING, default=45
    )
    min_gain: float = fields.number(0, 1, "a gain, as a fraction", group=_STOPPING, default=0.001)
    protocol: str = fields.choice(
        PROTOCOLS,
        "a validation split (clean) or the test set (paper) picks the epoch",
        group=_STOPPING,
        default="clean",
    )
    validation_fraction: float = fields.number(
        0, 0.9, "of the training set, protocol clean", open_low=True, group=_STOPPING, default=0.1
    )
    seeds: int = fields.number(
        1, 10**6, "how many networks of each rule", group=_COMPUTING, default=10
    )
    first_seed: int = fields.number(
        0, 2**31 - 1, "seeds are first_seed, first_seed + 1, ...", group=_COMPUTING, default=0
    )
    criterion: float = fields.number(
        0,
        1,
        "fraction of backprop's best accuracy to reach",
        open_low=True,
        group=_STOPPING,
        default=0.98,
    )
    curriculum: str = fields.choice(
        CURRICULA,
        "classes come one after another, by index or in an order of each seed's own",
        group=_CURRICULUM,
        default="off",
    )
    curriculum_threshold: float = fields.number(
        0,
        1,
        "accuracy on the active classes at which the next ones come",
        group=_CURRICULUM,
        default=0.8,
    )
    curriculum_start: int = fields.number(
        1, 10**6, "classes active from the start", group=_CURRICULUM, default=1
    )
    curriculum_step: int = fields.number(
        1, 10**6, "classes that come at a time", group=_CURRICULUM, default=1
    )
    curriculum_window: int = fields.number(
        1, 10**9, "batches over which accuracy is measured", group=_CURRICULUM, default=20
    )
    curriculum_recency: float = fields.number(
        0,
        1e9,
        "how much more often the newest class is shown; 0: no recency bias",
        group=_CURRICULUM,
        default=4.0,
    )
    curriculum_decay: float = fields.number(
        0, 1, "factor on that each time that others come", group=_CURRICULUM, default=0.5
    )
    curriculum_exploration: float = fields.number(
        0,
        1,
        "fraction of choices among the newest classes alone, while they are learned; 0: none",
        group=_CURRICULUM,
        default=0.2,
    )
    curriculum_max_wait: int = fields.number(
        0,
        10**9,
        "batches after which the next classes come anyway; 0: never",
        group=_CURRICULUM,
        default=0,
    )
    curriculum_outputs: str = fields.choice(
        CURRICULUM_OUTPUTS,
        "whether classes that are not active can be chosen (open) or not (masked)",
        group=_CURRICULUM,
        default="masked",
    )
    precision: str = fields.choice(
        PRECISIONS, "of the computation", group=_COMPUTING, default="float32"
    )
    seeds_by: str = fields.choice(
        SEEDS_BY,
        "seeds of a device side by side (vmap) or one after the other (map, less memory); "
        "auto is map on a CPU, else vmap",
        group=_COMPUTING,
        default="auto",
    )

    def __post_init__(self) -> None:
        known = FEEDBACK_ALIASES.get(str(self.feedback), self.feedback)
        object.__setattr__(self, "feedback", known)
        if self.feedback == "tied" and self.feedback_scale != 1:
            raise UserError("--feedback-scale goes with feedback weights that are not tied")
        fields.check(self)
        if not re.fullmatch(r"\w[\w.+-]*", self.name):
            raise UserError(
                f"a config's name, which names its folder, is of letters, digits and _ . + -; got "
                f"{self.name!r}"
            )
        if self.reward == "shuffled" and self.batch_size < 2:
            raise UserError("--reward shuffled needs a --batch-size of at least 2")
        if self.curriculum != "off":
            self._check_curriculum()
        if self.hidden is not None and self.architecture != "dense":
            raise UserError(f"--hidden goes with the dense architecture, not {self.architecture}")

    def _check_curriculum(self) -> None:
        forced = self.curriculum_exploration == 1 and set(self.rules) != {"backprop"}
        if forced and not self.curriculum_max_wait:
            raise UserError(
                "--curriculum-exploration 1 needs --curriculum-max-wait: no choice is counted then"
            )
        of_probabilities = set(OF_PROBABILITIES) & set(self.rules)
        if self.curriculum_exploration and of_probabilities:
            raise UserError(
                f"{sorted(of_probabilities)[0]} with a curriculum needs --curriculum-exploration "
                "0: it learns how probable a choice is, and one that is forced teaches it nothing"
            )

    @property
    def monitored(self) -> str:
        """Which images pick the epoch: "validation" or "test"."""
        return "validation" if self.protocol == "clean" else "test"

    def trained(self, examples: int) -> int:
        """Return how many of the training set's examples are trained on, not held out."""
        if self.protocol == "paper":
            return examples
        return examples - max(1, round(self.validation_fraction * examples))

    def epoch_of(self, examples: int) -> tuple[int, int]:
        """Return the steps of an epoch over ``examples`` images, and how many of them it shows."""
        full, rest = divmod(examples, self.batch_size)
        if rest and self.last_batch == "keep":
            return full + 1, examples
        return full, full * self.batch_size
