"""Angles against ones drawn on paper."""

import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax import analysis

KERNEL = jnp.array([[[1.0, 0.0]], [[1.0, 1.0]]])  # two seeds
DOWN = jnp.array([[[1.0, 1.0]], [[-1.0, -1.0]]])


@pytest.mark.parametrize(
    ("feedback", "degrees"),
    [("tied", [0, 0]), ("sign", [0, 0]), ("kolen_pollack", [45, 180]), ("random", [45, 180])],
)
def test_feedback_angles_by_hand(feedback, degrees):
    params = {"out": {"kernel": KERNEL, "bias": jnp.ones((2, 2))}, "norm": {"scale": jnp.ones(2)}}
    if feedback == "kolen_pollack":
        params["out"]["feedback_kernel"] = DOWN
    state = {"feedback": {"out": {"kernel": DOWN}}} if feedback == "random" else {}
    angles = analysis.feedback_angles(params, state, feedback)
    assert list(angles) == ["out"]
    np.testing.assert_allclose(angles["out"], degrees, atol=0.05)
    for seed in range(2):  # a network alone, without the axis of seeds
        weights = {name: values[seed] for name, values in params["out"].items()}
        fixed = {"feedback": {"out": {"kernel": DOWN[seed]}}}
        angle = analysis.feedback_angles({"out": weights}, fixed, feedback)["out"]
        np.testing.assert_allclose(angle, degrees[seed], atol=0.05)


def test_layers_within_modules():
    params = {"block": {"out": {"kernel": KERNEL, "feedback_kernel": DOWN}}}
    angles = analysis.feedback_angles(params, {}, "kolen_pollack")
    np.testing.assert_allclose(angles["block/out"], [45, 180], atol=0.05)
    up, down = {"block": {"out": {"kernel": KERNEL}}}, {"block": {"out": {"kernel": DOWN}}}
    # (1 + 0 - 1 - 1) / (√3 · 2)
    expected = np.degrees(np.arccos(-1 / 12**0.5))
    np.testing.assert_allclose(analysis.layer_angles(up, down)["block/out"], expected, rtol=1e-5)


def test_an_unknown_feedback():
    with pytest.raises(ValueError, match="unknown feedback 'magic'"):
        analysis.feedback_angles({"out": {"kernel": KERNEL}}, {}, "magic")
