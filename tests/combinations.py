"""Combinations of parameters: each value is tried in every run, each combination in slow ones."""

import itertools

import pytest


def every_value(*axes):
    """Return all combinations of ``axes``, for ``pytest.mark.parametrize``.

    As few as hold each value of each axis are quick, the others slow.
    """
    axes = [list(axis) for axis in axes]
    quick = {tuple(i % len(axis) for axis in axes) for i in range(max(map(len, axes)))}
    combinations = []
    for places in itertools.product(*(range(len(axis)) for axis in axes)):
        values = [axis[place] for axis, place in zip(axes, places, strict=True)]
        marks = [pytest.mark.slow] * (places not in quick)
        combinations.append(pytest.param(*values, id="-".join(map(str, values)), marks=marks))
    return combinations
