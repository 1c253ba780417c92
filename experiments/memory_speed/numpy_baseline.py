"""AuGMEnT and the saccade task in plain NumPy, many networks at once: what JAX is timed against.

The equations are those of ``qagrel_jax.rules.augment``, the trial that of
``qagrel_jax.tasks.base``. It is written to be fast in NumPy: float32, networks on the last axis,
all weights in one array and all tags in another, few temporaries. Nothing keeps a learning
criterion, nobody is frozen, and ties between Q values go to the first.
"""

from collections.abc import Callable, Sequence

import numpy as np

FIXATE, LEFT, RIGHT = range(3)
BLANK, ACQUIRE, HOLD, GO, OVER = range(5)
INPUTS, BLANK_STEPS, FIXATION_STEPS, HOLD_STEPS = 4, 1, 2, 3
FIXATION_TIMEOUT, RESPONSE_TIMEOUT = 10, 8
FIXATION_REWARD, CORRECT_REWARD = 0.2, 1.5
BETA, LAMBDA, GAMMA, EPSILON, THETA = 0.15, 0.2, 0.9, 0.025, 2.5


class Augment:
    """Networks that see, act, learn and tag; ``weights`` and ``tags`` as in ``augment.Weights``."""

    def __init__(self, weights: Sequence[np.ndarray]) -> None:
        """Take float[…, networks] in the order of ``augment.Weights``; the dtype is kept."""
        self.networks, kind = weights[0].shape[-1], weights[0].dtype
        self._all_weights = np.concatenate([w.reshape(-1, self.networks) for w in weights])
        self._all_tags = np.zeros_like(self._all_weights)
        self._all_changes = np.empty_like(self._all_weights)
        shapes = [w.shape for w in weights]
        self.weights = _views(self._all_weights, shapes)
        self.tags = _views(self._all_tags, shapes)
        self._changes = _views(self._all_changes, shapes)
        rows = {"inputs": shapes[0][0], "hidden": shapes[2][0]}
        self._inputs, self._hidden = (np.ones((n, self.networks), kind) for n in rows.values())
        self._transients = np.empty((shapes[1][0], self.networks), kind)
        self.trace = np.zeros_like(self._transients)
        self.memory = np.zeros((shapes[1][1], self.networks), kind)
        self.observation = np.zeros((shapes[1][0] // 2, self.networks), kind)
        self.q_previous = np.zeros(self.networks, kind)
        self._units = np.arange(shapes[3][1])[:, None]

    def step(
        self,
        observation: np.ndarray,
        reward: np.ndarray,
        ended: np.ndarray,
        choose: Callable[[np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """See, choose, learn, tag; return the actions, int[networks]."""
        input_regular, input_memory, regular_q, memory_q = self.weights
        half = len(observation)
        change = observation - self.observation
        np.maximum(change, 0, out=self._transients[:half])
        np.maximum(-change, 0, out=self._transients[half:])
        self._inputs[1:] = observation
        self.memory += np.einsum("ijn,in->jn", input_memory, self._transients)
        regular = _sigmoid(np.einsum("ijn,in->jn", input_regular, self._inputs))
        remembered = _sigmoid(self.memory)
        self._hidden[1:] = regular
        q_values = np.einsum("jan,jn->an", regular_q, self._hidden)
        q_values += np.einsum("man,mn->an", memory_q, remembered)

        action = choose(q_values)
        keep = (~ended).astype(q_values.dtype)
        chosen = (action == self._units) * keep
        q_chosen = (q_values * chosen).sum(0)
        rpe = reward + GAMMA * q_chosen - self.q_previous

        np.multiply(self._all_tags, BETA * rpe, out=self._all_changes)
        self._all_weights += self._all_changes

        self.trace += self._transients
        self.trace *= keep
        to_regular = np.einsum("jan,an->jn", regular_q[1:], chosen) * regular * (1 - regular)
        to_memory = np.einsum("man,an->mn", memory_q, chosen) * remembered * (1 - remembered)
        self._all_tags *= LAMBDA * GAMMA * keep
        pairs = (
            (self._inputs, to_regular),
            (self.trace, to_memory),
            (self._hidden, chosen),
            (remembered, chosen),
        )
        for new, (before, after) in zip(self._changes, pairs, strict=True):
            np.multiply(before[:, None], after[None], out=new)
        self._all_tags += self._all_changes

        self.memory *= keep
        self.observation = observation * keep
        self.q_previous = q_chosen
        return action


class Saccade:
    """Trials of the saccade/antisaccade task, each network at its own point of its own trial."""

    def __init__(self, networks: int, draw: Callable[[int], np.ndarray]) -> None:
        """Start a trial for each; ``draw(n)`` gives n trial types, int in 0 to 3."""
        self._draw = draw
        self.kind = draw(networks)
        self.phase, self.clock, self.held = np.zeros((3, networks), np.int32)
        self.reward = np.zeros(networks, np.float32)
        self.ended = np.zeros(networks, bool)

    def observe(self) -> np.ndarray:
        """What is seen now, float32[4, networks]."""
        anti, right = self.kind >= 2, self.kind % 2 == 1
        mark = (self.phase == ACQUIRE) | (self.phase == HOLD)
        cue = (self.phase == HOLD) & (self.clock < 1)
        seen = np.empty((INPUTS, self.kind.size), np.float32)
        lights = mark & ~anti, mark & anti, cue & ~right, cue & right
        for row, light in zip(seen, lights, strict=True):
            row[:] = light
        return seen

    def answer(self, action: np.ndarray) -> None:
        """Move on; a trial whose end has been seen is followed by a new one."""
        phase, clock, fixates = self.phase, self.clock + 1, action == FIXATE
        acquiring, holding, going = phase == ACQUIRE, phase == HOLD, phase == GO
        held = np.where(acquiring & fixates, self.held + 1, 0)
        acquired = acquiring & (held >= FIXATION_STEPS)
        lost = acquiring & ~fixates & ((self.held > 0) | (clock >= FIXATION_TIMEOUT))
        over = lost | (holding & ~fixates) | (going & (~fixates | (clock >= RESPONSE_TIMEOUT)))
        moves = acquired | ((phase == BLANK) & (clock >= BLANK_STEPS))
        moves |= holding & fixates & (clock >= HOLD_STEPS)
        correct = going & (action == np.where((self.kind == 0) | (self.kind == 3), LEFT, RIGHT))

        new = np.flatnonzero(self.ended)
        self.phase = np.where(over, OVER, phase + moves)
        self.clock = np.where(over | moves, 0, clock)
        self.held = np.where(over | moves, 0, held)
        self.reward = (FIXATION_REWARD * acquired + CORRECT_REWARD * correct).astype(np.float32)
        self.ended = over
        self.phase[new] = self.clock[new] = self.held[new] = 0
        self.kind[new] = self._draw(new.size)


class Population:
    """Networks learning the saccade task.

    Attributes:
      trials: training trials ended so far, of all networks together.
    """

    def __init__(self, weights: Sequence[np.ndarray], seed: int) -> None:
        """Take float32[…, networks] in the order of ``augment.Weights``."""
        self._rng = np.random.default_rng(seed)
        self._learner = Augment(weights)
        self._environment = Saccade(self._learner.networks, lambda n: self._rng.integers(0, 4, n))
        self.trials = 0

    def advance(self, steps: int) -> None:
        """Let every network act and learn for ``steps`` steps."""
        environment = self._environment
        for _ in range(steps):
            self.trials += int(environment.ended.sum())
            seen = environment.observe()
            environment.answer(
                self._learner.step(seen, environment.reward, environment.ended, self._choose)
            )

    def _choose(self, q_values: np.ndarray) -> np.ndarray:
        """Max-Boltzmann: with probability ε a draw from softmax(q), else the largest."""
        action = q_values.argmax(0)
        exploring = np.flatnonzero(self._rng.random(action.size, np.float32) < EPSILON)
        gumbel = self._rng.gumbel(size=(len(q_values), exploring.size))
        action[exploring] = (q_values[:, exploring] + gumbel).argmax(0)
        return action


def _sigmoid(drive: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(THETA - drive))


def _views(array: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    ends = np.cumsum([rows * columns for rows, columns, _ in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(array, ends), shapes, strict=True)]
