"""A population of any size, run in blocks of those still learning.

Networks that have converged or given up stop costing anything: before every chunk the others are
packed into as few blocks as will hold them. The packing depends on nothing but who is still
learning, so a run interrupted between two chunks resumes bit for bit as if it had not been.
Blocks come in a few sizes only, so that little is compiled; on a CPU a block of ``CPU_BLOCK``
networks fits its cache.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax import checks
from qagrel_jax.population import population
from qagrel_jax.tasks import TASKS, contract
from qagrel_jax.tasks import criterion as criteria

CPU_BLOCK, CPU_ALONE, SMALL_BLOCK = 64, 128, 16
"""Networks in a block on a CPU; as many as CPU_ALONE are faster in a single one."""


class Packed:
    """All networks of a run, on the host, and what it takes to advance them.

    As many start as there are settings, or as asked for.

    Args:
      setup: what the networks share.
      key: the run's random key.
      learning_rate: β, float[networks] or one for all; None: that of ``setup.config``.
      tag_decay: λ, likewise.
      tied: bool[networks], where ``setup.config.feedback`` is "kolen_pollack" whose feedback
        weights shall equal the forward ones all the same; None for no one's.
      networks: how many; may be left out where one of the settings is an array.
      steps: steps a chunk.
      block: the largest block; None for what suits the device.

    Attributes:
      setup: what the networks share.
      networks: the ``Population`` as NumPy arrays, networks' axis last.
      turn: chunks run so far.
      steps: steps a chunk.

    Raises:
      ValueError: no networks, settings of different numbers of networks or out of range, no
        steps, no block; networks whose feedback shall not be tied where the config's is; a task
        whose functions return other shapes than ``tasks.Task`` says.
      TypeError: a value of another type; a task whose functions return one.

    Does AuGMEnT learn the saccade task?

    >>> import jax, qagrel_jax as qj
    >>> from qagrel_jax.population import Setup
    >>> task = qj.make_task("saccade")
    >>> config = qj.rules.augment.AugmentConfig(inputs=task.inputs)
    >>> setup = Setup(task, task.params(), config, task.criterion)
    >>> packed = Packed(setup, jax.random.key(0), networks=8)
    >>> packed.advance()  # while len(packed.learning) > 0
    >>> len(packed.trials_to_convergence())
    8
    """

    def __init__(
        self,
        setup: population.Setup,
        key: chex.PRNGKey,
        learning_rate: np.ndarray | float | None = None,
        tag_decay: np.ndarray | float | None = None,
        tied: np.ndarray | None = None,
        *,
        networks: int | None = None,
        steps: int = 512,
        block: int | None = None,
    ) -> None:
        checks.instance("setup", setup, population.Setup)
        checks.random_key("key", key)
        contract.check(setup.task, setup.params)
        if setup.task is not TASKS.get(setup.task.name):
            contract.check_conditions(setup.task, setup.params)
        own = setup.config
        rates = np.asarray(own.learning_rate if learning_rate is None else learning_rate)
        decays = np.asarray(own.tag_decay if tag_decay is None else tag_decay)
        checks.number("learning_rate", rates, 0, leaf=True)
        checks.number("tag_decay", decays, 0, 1, leaf=True)
        if networks is not None:
            checks.whole("networks", networks)
            networks = int(networks)
        size = _size(rates, decays, networks)
        if tied is not None and np.shape(tied) != (size,):
            raise ValueError(f"tied must be [{size}], one for each network, got {np.shape(tied)}")
        own_feedback = own.feedback != "tied"
        if tied is not None and not (own_feedback or np.all(tied)):
            raise ValueError("tied=False needs a config with feedback='kolen_pollack'")
        checks.whole("steps", steps)
        if block is not None:
            checks.whole("block", block)
            block = int(block)
        self.setup, self.steps, self.turn = setup, int(steps), 0
        self._sizes = _block_sizes(size, block)
        settings = population.Settings(
            jnp.asarray(np.broadcast_to(rates, size), jnp.float32),
            jnp.asarray(np.broadcast_to(decays, size), jnp.float32),
            jnp.full(size, not own_feedback) if tied is None else jnp.asarray(tied, bool),
        )
        self.networks = _to_host(population.start(setup, key, jnp.arange(size), settings))

    def __len__(self) -> int:
        return len(self.networks.progress.status)

    @property
    def learning(self) -> np.ndarray:
        """The numbers of the networks that have neither converged nor given up."""
        return np.flatnonzero(self.networks.progress.status < criteria.CONVERGED)

    def advance(self) -> None:
        """Let every network that is still learning run one more chunk of ``steps``."""
        members = self.learning
        blocks = []
        while members.size:
            size = next((s for s in self._sizes if s >= members.size), self._sizes[-1])
            chosen, members = members[:size], members[size:]
            # Spare columns hold copies of a network; their results are discarded.
            columns = np.concatenate([chosen, np.full(size - chosen.size, chosen[0])])
            packed = jax.tree.map(lambda x, at=columns: np.take(x, at, -1), self.networks)
            turn = jnp.int32(self.turn)
            blocks.append((chosen, population.advance(self.setup, packed, turn, steps=self.steps)))
        for chosen, block in blocks:
            jax.tree.map(lambda whole, part, at=chosen: _put(whole, at, part), self.networks, block)
        self.turn += 1

    def trials_to_convergence(self) -> list[int | None]:
        """Training trials each network took to converge; None where it did not (yet)."""
        progress = self.networks.progress
        return [
            int(trials) if status == criteria.CONVERGED else None
            for status, trials in zip(progress.status, progress.trials, strict=True)
        ]

    def state(self) -> dict[str, np.ndarray]:
        """Copy everything it takes to resume, as named arrays."""
        leaves: list[Any] = jax.tree.leaves(_to_host(self.networks))
        own = {"turn": np.int64(self.turn), "steps": np.int64(self.steps)}
        return own | {f"leaf{i}": x for i, x in enumerate(leaves)}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Resume from ``state``.

        Raises:
          ValueError: it has other shapes or dtypes than this population's, or other ``steps``, on
            which its random numbers depend. Whether the task and its parameters are the same it
            does not tell.
        """
        if (steps := int(state.get("steps", self.steps))) != self.steps:
            raise ValueError(f"steps must be {steps}, as when the state was made, got {self.steps}")
        leaves, structure = jax.tree.flatten(self.networks)
        arrays = {name for name in state if name.startswith("leaf")}
        last = f"leaf{len(leaves) - 1}"
        uncounted = self.networks.progress.passed is not None and last not in arrays
        if uncounted:
            # An earlier version did not count the trials of each level; this leaf is the last.
            state, arrays = {**state, last: np.zeros_like(leaves[-1])}, arrays | {last}
        if arrays != {f"leaf{i}" for i in range(len(leaves))} or "turn" not in state:
            raise ValueError(
                f"expected the {len(leaves)} arrays of a population's state, and its turn"
            )
        loaded = [np.array(state[f"leaf{i}"]) for i in range(len(leaves))]
        for old, new in zip(leaves, loaded, strict=True):
            if old.shape != new.shape or old.dtype != new.dtype:
                raise ValueError(f"expected {old.dtype}{old.shape}, got {new.dtype}{new.shape}")
        self.networks = jax.tree.unflatten(structure, loaded)
        if uncounted:
            progress = self.networks.progress
            level = np.arange(len(progress.passed))[:, None]
            before = (level < progress.level[None]) | (progress.status == criteria.CONVERGED)[None]
            progress.passed[before] = -1
        self.turn = int(state["turn"])

    def network(self, number: int) -> population.Population:
        """One network alone, without the networks' axis, wherever in a trial it stands.

        In a loop of one's own AuGMEnT or WorkMATe starts afresh with
        ``environments.forget(....learner)``.

        Raises:
          ValueError: there is no network of this number.
          TypeError: ``number`` is no number.
        """
        checks.whole("number", number, -len(self), len(self) - 1)
        return jax.tree.map(lambda x: jnp.asarray(x[..., number]), self.networks)


def _size(rates: np.ndarray, decays: np.ndarray, networks: int | None) -> int:
    """Return how many networks have these settings."""
    shapes = {x.shape for x in (rates, decays)} - {()}
    shapes |= {(networks,)} if networks is not None else set()
    if len(shapes) != 1 or len(*shapes) != 1 or (0,) in shapes:
        raise ValueError(
            "learning_rate and tag_decay must be [networks], a number for each network, or one "
            f"number with networks=, got shapes {rates.shape} and {decays.shape} with networks "
            f"{networks}"
        )
    return shapes.pop()[0]


def _block_sizes(networks: int, block: int | None) -> tuple[int, ...]:
    if block is None:
        in_one = jax.default_backend() != "cpu" or networks <= CPU_ALONE
        block = networks if in_one else CPU_BLOCK
    block = min(block, networks)
    sizes = [block]
    while sizes[0] > SMALL_BLOCK:
        sizes.insert(0, max(SMALL_BLOCK, sizes[0] // 8))
    return tuple(sizes)


def _to_host(tree: Any) -> Any:
    return jax.tree.map(np.array, tree)


def _put(whole: np.ndarray, at: np.ndarray, part: chex.Array) -> None:
    whole[..., at] = np.asarray(part)[..., : at.size]
