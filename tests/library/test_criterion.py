"""The learning criterion beside one with lists and loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax.tasks import criterion as criteria
from qagrel_jax.tasks.criterion import Criterion
from tests.reference.criterion import Learner

STATUS = ("training", "testing", "converged", "gave up")
CASES = {
    "one window": {"conditions": 1, "windows": (5,), "accuracy": 0.8, "max_trials": 60},
    "four conditions and a test": {
        "conditions": 4,
        "windows": (7,),
        "accuracy": 0.7,
        "max_trials": 400,
        "test_allowed": (0, 0, 0, 0),
    },
    "a test of groups, retested late": {
        "conditions": 2,
        "windows": (40,),
        "accuracy": 0.6,
        "max_trials": 400,
        "test_allowed": (1, 0, 2),
        "test_repeats": 4,
        "retest_after": 9,
    },
    "tested once": {
        "conditions": 1,
        "windows": (3,),
        "accuracy": 0.6,
        "max_trials": 300,
        "test_allowed": (0, 0, 0),
        "retest_after": 2**31 - 1,
    },
    "responses in a row": {
        "conditions": 1,
        "windows": (1,),
        "accuracy": 1.0,
        "max_trials": 300,
        "consecutive": 25,
    },
    "trials in a row": {
        "conditions": 2,
        "windows": (4,),
        "accuracy": 0.5,
        "max_trials": 300,
        "consecutive": 1,
    },
    "shaping": {"conditions": 1, "windows": (5, 33, 70), "accuracy": 0.75, "max_trials": 500},
}


@pytest.mark.parametrize("case", CASES)
def test_every_count_agrees_with_lists_and_loops(case):
    criterion = Criterion(**CASES[case])
    networks, steps = 12, 700
    several = bool(criterion.consecutive)
    rng = np.random.default_rng(1)
    # The later, the better: some networks converge, some fail tests, some give up.
    skill = np.linspace(0.2, 0.97, networks)
    responses = rng.random((steps, networks, 3 if several else 1)) < skill[:, None]
    correct = responses.all(-1)
    run = np.cumprod(responses[..., ::-1], axis=-1).sum(-1) if several else None
    ended = rng.random((steps, networks)) < 0.9
    condition = rng.integers(0, criterion.conditions, (steps, networks))

    def body(progress, step):
        progress = criteria.update(criterion, progress, *step)
        passed = progress.status if progress.passed is None else progress.passed
        counts = progress.status, progress.trials, progress.level, progress.tests
        return progress, (*counts, passed)

    start = jax.tree.map(
        lambda x: jnp.broadcast_to(x[..., None], (*x.shape, networks)), criteria.start(criterion)
    )
    progress_of = jax.jit(lambda *steps: jax.lax.scan(body, start, steps)[1])
    steps_seen = (ended, correct, condition, *([run] if several else []))
    *ours, passed = jax.tree.map(np.asarray, progress_of(*steps_seen))
    seen = set()
    for n in range(networks):
        learner = Learner(**CASES[case])
        for t in range(steps):
            if ended[t, n]:
                answers = responses[t, n].tolist() if several else None
                learner.trial(bool(correct[t, n]), condition[t, n], answers)
            theirs = learner.status, learner.trials, learner.level, learner.tests
            assert (STATUS[ours[0][t, n]], *(count[t, n] for count in ours[1:])) == theirs
            if len(criterion.windows) > 1:
                assert passed[t, :, n].tolist() == learner.passed
        seen.add(learner.status)
    assert {"converged", "gave up"} <= seen


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("conditions", 0),
        ("windows", ()),
        ("accuracy", 1.2),
        ("max_trials", 0),
        ("retest_after", 0),
        ("consecutive", -1),
        ("conditions", 2**31),
        ("windows", (5, 2**31)),
        ("max_trials", 2**31),
        ("retest_after", 2**31),
        ("consecutive", 2**31),
        ("test_allowed", (2**31,)),
        ("test_repeats", 2**31),
    ],
)
def test_a_bad_criterion_is_named_with_its_value(field, value):
    good = {"conditions": 1, "windows": (5,), "accuracy": 0.8, "max_trials": 60}
    with pytest.raises(ValueError, match=field):
        Criterion(**good | {field: value})


def test_lists_and_arrays_become_what_can_be_hashed():
    plain = Criterion(4, (50, 60), 0.5, 100, test_allowed=(0, 1))
    given = Criterion(
        np.array(4), [np.int64(50), 60], np.array(0.5), np.int32(100), test_allowed=[0, np.array(1)]
    )
    assert given == plain and hash(given) == hash(plain)


@pytest.mark.parametrize(("accuracy", "window", "needed"), [(0.55, 100, 55), (0.07, 100, 7)])
def test_a_fraction_that_is_a_whole_number_of_trials_needs_no_more(accuracy, window, needed):
    """0.55 · 100 is 55.00000000000001 in double precision."""
    assert Criterion(1, (window,), accuracy, 100).required == (needed,)


def test_the_trials_of_a_frozen_test_count_in_no_streak():
    """Four right trials meet the criterion; two more and an error are the test's."""
    criterion = Criterion(1, (4,), 1.0, 99, test_allowed=(0,) * 3, consecutive=4)
    progress, right = criteria.start(criterion), [True] * 6 + [False]
    for correct in right:
        ended = jnp.bool_(True), jnp.bool_(correct), jnp.int32(0)
        progress = criteria.update(criterion, progress, *ended)
    assert int(progress.status) == criteria.TRAINING and int(progress.tests) == 1
    assert (int(progress.trials), int(progress.streak)) == (4, 4)


def test_the_last_trial_may_still_lead_to_the_frozen_test():
    criterion = Criterion(1, (2,), 1.0, 2, test_allowed=(0,))
    progress, statuses = criteria.start(criterion), []
    for _ in range(3):
        right = jnp.bool_(True), jnp.bool_(True), jnp.int32(0)
        progress = criteria.update(criterion, progress, *right)
        statuses.append(int(progress.status))
    assert statuses == [criteria.TRAINING, criteria.TESTING, criteria.CONVERGED]
