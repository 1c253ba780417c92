"""Curve tracing: look at the end of the curve that starts at the fixation point.

A grid of n × n pixels shows two curves of the same length, each a path from pixel to neighboring
pixel that nowhere touches itself or the other. The target curve starts with a red pixel, the
fixation point, the distractor with a green one; both continue in green and end in blue. The action
is an eye movement to one of the n² pixels, rewarded if it goes to the blue end of the target curve.
Nothing but the path tells the two ends apart.

Curves of length 2 are the curriculum's first stage: a red and a blue pixel anywhere, and no
distractor.

One trial, to be mapped (``jax.vmap``) over many::

    trial, observation = reset(key, params)
    reward, correct = step(trial, action, params)

What the publications leave open: pixels that touch at a corner only do not count as in contact
here, as in the authors' code, for no connection of the network reaches over a corner; curves on the
larger grid are one pixel wide; how far apart curves are. A blank pixel may be beside both, unless
``apart`` is set.

Reference:
  Mollard, Bohté & Roelfsema (2024), PLoS Comput Biol 20(4): e1012030, and the authors' code.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from qagrel_jax import checks, settings

COLORS = ("red", "yellow", "green", "blue")
"""Channels of an observation; yellow is not used in this task."""

RED, _, GREEN, BLUE = range(4)

MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)], np.int32)

LONGEST = 100
"""A random path that may not touch itself rarely gets further: drawing it would not end."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params:
    """Sizes and reward; the lengths are leaves, so a curriculum may change them.

    Attributes:
      grid: n, pixels along each side; 15 in the publication.
      max_length: pixels of the longest curve that will be asked for.
      shortest: each trial's length is uniform between this and ``longest``, ends included.
      longest: at most ``max_length``; 2 means the first stage.
      correct_reward: for the correct eye movement; any other brings 0.
      apart: no pixel is beside both curves (``have_common_neighbor``).

    Raises:
      ValueError: a value out of range.
      TypeError: a value of another type.

    >>> Params(grid=5, max_length=9)
    Traceback (most recent call last):
    ValueError: two curves of 9 pixels hardly fit into 5 x 5 pixels: max_length must be at most 5
    """

    grid: int = settings.static(15)
    max_length: int = settings.static(9)
    shortest: chex.Numeric = 3
    longest: chex.Numeric = 9
    correct_reward: float = settings.static(1.2)
    apart: bool = settings.static(False)

    def __post_init__(self) -> None:
        checks.flag("apart", self.apart)
        # On fewer pixels not even two curves of 3 fit.
        settings.at_least(self, 5 if self.apart else 4, "grid")
        settings.at_least(self, 3, "max_length")
        settings.at_least(self, 0, "correct_reward")
        if self.max_length > (most := longest_curve(self.grid, self.apart)):
            size = f"{self.grid} x {self.grid}"
            raise ValueError(
                f"two curves of {self.max_length} pixels hardly fit into {size} pixels: max_length "
                f"must be at most {most}"
            )
        settings.whole_leaf(self, 2, "shortest", "longest")
        shortest, longest = map(settings.known_number, (self.shortest, self.longest))
        if shortest is None or longest is None:
            return
        if not 2 <= shortest <= longest <= self.max_length:
            raise ValueError(
                "lengths must be 2 <= shortest <= longest <= max_length, got "
                f"{shortest}, {longest}, {self.max_length}"
            )


def longest_curve(grid: int, apart: bool = False) -> int:
    """Return how many pixels two random curves on a grid can have so that drawing them ends soon.

    Args:
      grid: n, pixels along each side.
      apart: as in ``Params``.

    Returns:
      One fifth of the grid's pixels, for ``apart`` one seventh, and 100 at most: of this length,
      one pair of random paths in 150 is complete, or more.

    >>> longest_curve(15), longest_curve(15, apart=True), longest_curve(36)
    (45, 32, 100)
    """
    return min(grid**2 // (7 if apart else 5), LONGEST)


class Trial(NamedTuple):
    """Two curves; entries from ``length`` on are −1."""

    target: chex.Array  # int32[max_length], pixels (row · n + column) from the fixation point on
    distractor: chex.Array  # int32[max_length]; all −1 in the first stage
    length: chex.Array  # int32[], pixels of each curve


def reset(key: chex.PRNGKey, params: Params) -> tuple[Trial, chex.Array]:
    """Draw two curves.

    Each starts at a random free pixel and continues to a random free neighbor; pixels beside it are
    free no longer, and, for ``apart``, pixels beside these are not free for the distractor. If one
    curve cannot continue, both are drawn again.

    Args:
      key: a random key.
      params: sizes and lengths.

    Returns:
      ``(trial, observation)``, the latter float32[n, n, 4] as ``draw`` gives it.

    >>> import jax
    >>> trial, observation = reset(jax.random.key(0), Params())
    >>> observation.shape, observation[..., BLUE].sum().item()
    ((15, 15, 4), 2.0)
    """
    length_key, curves_key, stage_key = jax.random.split(key, 3)
    most = jnp.asarray(params.longest, jnp.int32) + 1
    length = jax.random.randint(length_key, (), params.shortest, most, jnp.int32)

    def draw_again(carry: tuple) -> tuple:
        key, *_ = carry
        key, target_key, distractor_key = jax.random.split(key, 3)
        free = jnp.ones((params.grid, params.grid), bool)
        target, free, complete = _walk(target_key, free, length, params)
        if params.apart:
            free = ~_with_neighbors(~free)
        distractor, _, also = _walk(distractor_key, free, length, params)
        return key, target, distractor, complete & also

    nothing = jnp.full(params.max_length, -1, jnp.int32)
    incomplete = (curves_key, nothing, nothing, jnp.bool_(False))
    _, target, distractor, _ = jax.lax.while_loop(lambda c: ~c[3], draw_again, incomplete)

    pixels = params.grid**2
    first, other = jax.random.split(stage_key)
    red = jax.random.randint(first, (), 0, pixels, jnp.int32)
    blue = (red + jax.random.randint(other, (), 1, pixels, jnp.int32)) % pixels
    apart = nothing.at[0].set(red).at[1].set(blue)
    first_stage = length == 2
    trial = Trial(
        jnp.where(first_stage[None], apart, target),
        jnp.where(first_stage[None], nothing, distractor),
        length,
    )
    return trial, draw(trial, params)


def step(trial: Trial, action: chex.Array, params: Params) -> tuple[chex.Array, chex.Array]:
    """Answer an eye movement; the trial is over.

    Args:
      trial: from ``reset``.
      action: int32[], a pixel: row · n + column.
      params: of the task.

    Returns:
      ``(reward float32[], correct bool[])``.

    Raises:
      ValueError: several actions or trials; ``jax.vmap`` maps over those.
    """
    checks.shape("action", action, instead=checks.ONE_TRIAL)
    checks.shape("trial.length", trial.length, instead=checks.ONE_TRIAL)
    correct = action == trial.target[trial.length - 1]
    return jnp.where(correct, jnp.float32(params.correct_reward), jnp.float32(0)), correct


def have_common_neighbor(trial: Trial, params: Params) -> chex.Array:
    """Say whether some pixel is beside both curves, two steps away from each other there.

    Args:
      trial: two curves.
      params: of the task.

    Returns:
      bool[]; False in the first stage, which has one curve.

    >>> target, distractor = jnp.array([0, 1]), jnp.array([31, 32])  # rows of 15 pixels
    >>> have_common_neighbor(Trial(target, distractor, jnp.int32(2)), Params()).item()
    True
    """
    pixels = [jnp.stack(jnp.divmod(curve, params.grid)) for curve in trial[:2]]
    away = jnp.abs(pixels[0][:, :, None] - pixels[1][:, None]).sum(0)
    there = (trial.target >= 0)[:, None] & (trial.distractor >= 0)[None]
    return (there & (away == 2)).any()


def draw(trial: Trial, params: Params) -> chex.Array:
    """Draw a trial's curves.

    Args:
      trial: two curves.
      params: of the task.

    Returns:
      float32[n, n, 4], 1 at a pixel's channel, see ``COLORS``.
    """
    place = jnp.arange(params.max_length)
    inner = jnp.where(place == trial.length - 1, BLUE, GREEN)
    image = jnp.zeros((params.grid**2 + 1, len(COLORS)), jnp.float32)
    # What is not there is drawn on one pixel more, which is cut off.
    for curve, colors in (
        (trial.target, jnp.where(place == 0, RED, inner)),
        (trial.distractor, inner),
    ):
        image = image.at[jnp.where(curve < 0, params.grid**2, curve), colors].set(1)
    return image[:-1].reshape(params.grid, params.grid, len(COLORS))


def _with_neighbors(pixels: chex.Array) -> chex.Array:
    """Add the neighbors of these pixels, bool[n, n]."""
    row, column = jnp.pad(pixels, ((1, 1), (0, 0))), jnp.pad(pixels, ((0, 0), (1, 1)))
    return pixels | row[:-2] | row[2:] | column[:, :-2] | column[:, 2:]


def _walk(
    key: chex.PRNGKey, free: chex.Array, length: chex.Array, params: Params
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """Draw a curve on free pixels; return it, what is still free, and whether it is complete."""
    n = params.grid
    start_key, moves_key = jax.random.split(key)
    # −1 where nothing is free: a draw may be 0, too.
    start = jnp.argmax(jnp.where(free.reshape(-1), jax.random.uniform(start_key, (n * n,)), -1))
    # All free pixels of the frame around the grid are taken.
    free = jnp.pad(free, 1).at[start // n + 1, start % n + 1].set(False)
    moves = jnp.asarray(MOVES)

    def go_on(carry: tuple, drawn: tuple) -> tuple:
        pixel, free, complete = carry
        place, noise = drawn
        here = jnp.stack([pixel // n + 1, pixel % n + 1])
        beside = here[None] + moves
        available = free[beside[:, 0], beside[:, 1]]
        following = beside[jnp.argmax(jnp.where(available, noise, -1))] - 1
        # Beside the last pixel, too, nothing may follow.
        free = jnp.where(place <= length, free.at[beside[:, 0], beside[:, 1]].set(False), free)
        goes_on = place < length
        complete = complete & (available.any() | ~goes_on)
        pixel = jnp.where(goes_on, following[0] * n + following[1], pixel)
        return (pixel, free, complete), jnp.where(goes_on, pixel, -1)

    places = jnp.arange(1, params.max_length + 1)
    noise = jax.random.uniform(moves_key, (params.max_length, len(MOVES)))
    first = start.astype(jnp.int32), free, jnp.bool_(True)
    (_, free, complete), rest = jax.lax.scan(go_on, first, (places, noise))  # type: ignore[var-annotated]
    curve = jnp.concatenate([start[None], rest[:-1]]).astype(jnp.int32)
    return curve, free[1:-1, 1:-1], complete
