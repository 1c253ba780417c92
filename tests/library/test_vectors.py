"""Vector tasks: patterns and labels by hand, reward and observation, errors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax.tasks import vectors


def test_xor_by_hand():
    task = vectors.xor()
    rows = zip(task.inputs.tolist(), task.labels.tolist(), strict=True)
    table = {tuple(bits): label for bits, label in rows}
    assert table == {(0, 0): 0, (1, 0): 1, (0, 1): 1, (1, 1): 0}
    assert task.num_actions == 2


@pytest.mark.parametrize("bits", [1, 3, 5])
def test_count_ones(bits):
    task = vectors.count_ones(bits)
    assert task.num_actions == bits + 1
    seen = sorted(map(tuple, task.inputs.tolist()))
    assert seen == sorted(itertools.product((0, 1), repeat=bits))
    assert task.labels.tolist() == [int(sum(x)) for x in task.inputs]


def test_orientation_by_hand():
    task = vectors.orientation(tilts=4, colors=2, units=2)
    # Tilts 22.5°, 67.5°, 112.5°, 157.5°; units prefer 0° and 90°, σ = 90°.
    near, far = np.exp(-(22.5**2) / (2 * 90**2)), np.exp(-(67.5**2) / (2 * 90**2))
    tuned = [[near, far], [far, near], [far, near], [near, far]]
    np.testing.assert_allclose(task.inputs[::2, :2], tuned, rtol=1e-6)
    np.testing.assert_array_equal(task.inputs[:2, 2:], np.eye(2))
    assert task.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_orientation_ignores_color():
    task = vectors.orientation()
    assert task.inputs.shape == (48, 12)
    assert np.bincount(task.labels).tolist() == [24, 24]
    by_color = task.labels.reshape(12, 4)
    assert (by_color == by_color[:, :1]).all()


def test_images_are_flat_and_scaled():
    pixels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1) * 36
    task = vectors.images(pixels, np.array([1, 0]), 2)
    np.testing.assert_allclose(task.inputs[1], np.array([144, 180, 216, 252]) / 255, rtol=1e-6)
    assert task.inputs.dtype == jnp.float32 and task.labels.dtype == jnp.int32


def test_trial_draws_every_pattern_and_rewards_the_right_action():
    task = vectors.count_ones(2)
    patterns, seen = jax.vmap(vectors.reset, (0, None))(
        jax.random.split(jax.random.key(0), 4000), task
    )
    np.testing.assert_allclose(np.bincount(patterns) / 4000, [0.25] * 4, atol=0.03)
    np.testing.assert_array_equal(seen, task.inputs[patterns])
    for pattern, action in itertools.product(range(4), range(3)):
        reward = vectors.step(task, jnp.int32(pattern), jnp.int32(action))
        assert float(reward) == (action == int(task.inputs[pattern].sum()))


def test_expected_reward_by_hand():
    task = vectors.xor()
    logits = jnp.log(jnp.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.4, 0.6]]))
    np.testing.assert_allclose(
        vectors.expected_reward(task, logits), (0.9 + 0.8 + 0.5 + 0.4) / 4, rtol=1e-6
    )


ONE_PIXEL = np.zeros((2, 1, 1, 1), np.uint8)


def test_images_that_were_divided_already_are_refused():
    with pytest.raises(TypeError, match="pixels must be uint8, got float64"):
        vectors.images(ONE_PIXEL / 255, np.array([0, 1]), 2)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: vectors.count_ones(0), "bits must be in .* got 0"),
        (lambda: vectors.orientation(tilts=5), "tilts must be even, got 5"),
        (lambda: vectors.orientation(colors=0), "colors must be at least 1, got 0"),
        (lambda: vectors.images(ONE_PIXEL, np.array([0, 3]), 3), r"in \[0, 3\), got 3 at 1"),
    ],
)
def test_errors_print_the_value(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_the_expected_reward_can_be_compiled():
    task, outputs = vectors.xor(), jnp.array([[3.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 0.0]])
    right = outputs[jnp.arange(4), task.labels]
    other = outputs[jnp.arange(4), 1 - task.labels]
    expected = np.mean(1 / (1 + np.exp(np.asarray(other - right))))
    for function in (vectors.expected_reward, jax.jit(vectors.expected_reward)):
        np.testing.assert_allclose(function(task, outputs), expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"outputs must be \[4, 2\], got \[4, 3\]"):
        vectors.expected_reward(task, jnp.ones((4, 3)))
