"""What is seen in each step of a trial, written out by hand, at the edges of every duration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax.tasks import (
    TASKS,
    base,
    match_to_category,
    probabilistic,
    reversal_bandit,
    saccade,
    twelve_ax,
    vibrotactile,
)
from tests.reference import working_memory as scripts

FIXATE, LEFT, RIGHT = 0, 1, 2


def units(size, *on):
    return np.isin(np.arange(size), on).astype(float)


def saccade_trial(params):
    """Anti right: look left."""
    trial = saccade.build(jnp.int32(3), params)
    mark, cue = units(4, 1), units(4, 1, 3)
    return trial, LEFT, {"-": units(4), "M": mark, "1": cue, "G": units(4)}


def match_trial(params):
    """15° and 195°, of different categories: right."""
    trial = match_to_category.Trial(jnp.int32(0), jnp.int32(6), jnp.array([15.0, 195.0]))
    first, second = (np.array([1, *scripts.direction_rates(d)]) for d in (15, 195))
    return trial, RIGHT, {"-": units(21), "M": units(21, 0), "1": first, "G": second}


def vibrotactile_trial(params):
    """30 Hz, then 20 Hz, without noise: left."""
    trial = vibrotactile.Trial(jnp.array([30.0, 20.0]), jnp.zeros((2, 20)))
    first, second = (np.array([1, *scripts.vibration_rates(f, [0] * 20)]) for f in (30, 20))
    return trial, LEFT, {"-": units(21), "M": units(21, 0), "1": first, "G": second}


def probabilistic_trial(params):
    """Symbols 2 and 4, both for red, at positions 3 and 0; red is right and baited: right."""
    trial = probabilistic.Trial(
        jnp.array([2, 4, 0, 0]),
        jnp.array([3, 0, 1, 2]),
        jnp.int32(2),
        jnp.bool_(True),
        jnp.float32(0.9),
        jnp.bool_(True),
    )
    targets = (0, 1 + 1, 1 + 2)  # the mark, red right, green left
    one, both = units(45, *targets, 5 + 30 + 2), units(45, *targets, 5 + 30 + 2, 5 + 4)
    return trial, RIGHT, {"-": units(45), "M": units(45, 0), "1": one, "2": both, "G": units(45)}


TRIALS = {
    "saccade": saccade_trial,
    "match_to_category": match_trial,
    "vibrotactile": vibrotactile_trial,
    "probabilistic": probabilistic_trial,
}

# A letter a step: - blank, M mark, 1 first stimulus, 2 second symbol, G go, = the trial is over.
MOST = {  # saccade, match-to-category and vibrotactile
    "paper": ({}, "-MM1MMG="),
    "no delay": ({"delay_steps": 0}, "-MM1G="),
    "delay 1": ({"delay_steps": 1}, "-MM1MG="),
    "delay 20": ({"delay_steps": 20}, "-MM1MMMMMMMMMMMMMMMMMMMMG="),
    "one fixation": ({"fixation_steps": 1}, "-M1MMG="),
    "three fixations": ({"fixation_steps": 3}, "-MMM1MMG="),
    "no blank": ({"blank_steps": 0}, "MM1MMG="),
    "window 1": ({"response_timeout": 1}, "-MM1MMG="),
    "all at once": (
        {
            "blank_steps": 0,
            "fixation_steps": 1,
            "delay_steps": 0,
            "response_timeout": 1,
            "fixation_timeout": 1,
        },
        "M1G=",
    ),
}
SYMBOLS = {
    "paper": ({}, "-MM1222G="),
    "no delay": ({"delay_steps": 0}, "-MM12G="),
    "delay 1": ({"delay_steps": 1}, "-MM122G="),
    "delay 20": ({"delay_steps": 20}, "-MM1222222222222222222222G="),
    "one fixation": ({"fixation_steps": 1}, "-M1222G="),
    "slow symbols": ({"symbol_steps": 2}, "-MM112222G="),
    "window 1": ({"response_timeout": 1}, "-MM1222G="),
    "all at once": (
        {
            "blank_steps": 0,
            "fixation_steps": 1,
            "delay_steps": 0,
            "response_timeout": 1,
            "fixation_timeout": 1,
        },
        "M12G=",
    ),
}
CASES = [
    (name, case, *timeline)
    for name in TRIALS
    for case, timeline in (SYMBOLS if name == "probabilistic" else MOST).items()
]


def follow(name, params, timeline, answer_at_go):
    """Play the trial by its timeline and compare every observation; return rewards, last step."""
    task = TASKS[name]
    trial, answer, shown = TRIALS[name](params)
    step = jax.jit(task.step)
    state, seen = task.begin(trial, params)
    rewards = []
    for letter in timeline:
        np.testing.assert_allclose(
            seen.observation, shown["-" if letter == "=" else letter], atol=2e-5
        )
        assert bool(seen.done) == (letter == "=")
        rewards.append(round(float(seen.reward), 6))
        last = seen
        action = answer if letter == "G" and answer_at_go else FIXATE
        state, seen = step(jax.random.key(0), state, jnp.int32(action), params)
    return rewards, last


@pytest.mark.parametrize(("name", "case", "durations", "timeline"), CASES)
def test_a_right_answer_at_once(name, case, durations, timeline):
    params = TASKS[name].params(**durations)
    rewards, last = follow(name, params, timeline, answer_at_go=True)
    assert bool(last.correct)
    assert rewards == [
        0.2 if n == timeline.index("1") else 1.5 if letter == "=" else 0
        for n, letter in enumerate(timeline)
    ]


@pytest.mark.parametrize("name", TRIALS)
@pytest.mark.parametrize("window", [1, 2, 8])
def test_the_response_window_is_so_many_steps_and_no_more(name, window):
    held = "1222" if name == "probabilistic" else "1MM"
    params = TASKS[name].params(response_timeout=window)
    timeline = "-MM" + held + "G" * window + "="
    rewards, last = follow(name, params, timeline, answer_at_go=False)
    assert sum(rewards) == 0.2 and not last.correct


def test_the_delay_of_a_curriculum_is_a_fifth_and_doubles():
    expected = {
        0: (0,),
        1: (1,),
        2: (1, 2),
        4: (1, 2, 4),
        8: (2, 4, 8),
        16: (4, 8, 16),
        20: (4, 8, 16, 20),
    }
    for delay, delays in expected.items():
        params = saccade.Params(delay_steps=delay, curriculum=True)
        assert saccade.delays(params) == delays
        assert len(saccade.recollect_criterion(params).windows) == len(delays)
        assert saccade.delays(saccade.Params(delay_steps=delay)) == (delay,)
    for level, held in enumerate(("1M", "1MM", "1MMMM")):
        params = saccade.Params(delay_steps=4, curriculum=True, level=level)
        assert follow("saccade", params, "-MM" + held + "G=", answer_at_go=True)[1].correct


def test_recollects_trials_follow_each_other_with_one_blank_step():
    assert saccade.RECOLLECT.blank_steps == 0
    rewards, last = follow("saccade", saccade.RECOLLECT, "MM1MMG=", answer_at_go=True)
    assert rewards == [0, 0, 0.2, 0, 0, 0, 1.5] and last.correct


def play(task, trial, params, actions):
    """Return the observations, rewards and the last step of a trial, one more than ``actions``."""
    step = jax.jit(task.step)
    state, seen = task.begin(trial, params)
    every = [seen]
    for action in actions:
        assert not seen.done
        state, seen = step(jax.random.key(0), state, jnp.int32(action), params)
        every.append(seen)
    assert bool(seen.done)
    _, after = step(jax.random.key(0), state, jnp.int32(actions[-1]), params)
    assert bool(after.done) and float(after.reward) == 0 and not np.any(after.observation)
    rewards = [round(float(seen.reward), 6) for seen in every]
    return np.stack([seen.observation for seen in every]), rewards, seen, state


def twelve_ax_trial(digit, *pairs):
    places = [twelve_ax.PAIRS.index(pair) for pair in pairs] + [0] * (4 - len(pairs))
    noise = twelve_ax.Noise(jnp.int32(digit - 1), jnp.array(places), jnp.int32(len(pairs)))
    return twelve_ax.build(noise, twelve_ax.Params())


@pytest.mark.parametrize(
    ("digit", "pairs", "stimuli", "answers"),
    [
        (1, ("AX", "CY", "BY", "AX"), "1AXCYBYAX", "LLRLLLLLR"),
        (2, ("AX", "BY", "BX"), "2AXBYBX", "LLLLRLL"),
        (2, ("BY",), "2BY", "LLR"),
        (1, ("CZ",), "1CZ", "LLL"),
    ],
)
def test_12ax_by_hand(digit, pairs, stimuli, answers):
    task, params = TASKS["twelve_ax"], twelve_ax.Params()
    actions = ["LR".index(answer) for answer in answers]
    shown, rewards, last, state = play(task, twelve_ax_trial(digit, *pairs), params, actions)
    expected = [units(8, "12ABCXYZ".index(stimulus)) for stimulus in stimuli]
    np.testing.assert_array_equal(shown, [*expected, units(8)])
    assert rewards == [0, *[0.1] * len(answers)]
    assert bool(last.correct) and int(task.run(state.trial)) == len(answers)
    # One wrong response, in turn at every place.
    for wrong in range(len(actions)):
        others = [1 - a if n == wrong else a for n, a in enumerate(actions)]
        _, rewards, last, state = play(task, twelve_ax_trial(digit, *pairs), params, others)
        assert rewards == [0, *(-1 if n == wrong else 0.1 for n in range(len(actions)))]
        assert not last.correct and int(task.run(state.trial)) == len(actions) - 1 - wrong


def test_12ax_draws_its_digits_pairs_and_lengths_as_it_says():
    params = twelve_ax.Params()
    draw = jax.jit(jax.vmap(lambda key: twelve_ax.build(twelve_ax.draw(key, params), params)))
    trials = draw(jax.random.split(jax.random.key(0), 4000))
    assert abs(int(trials.digit.sum()) - 2000) < 150
    lengths = np.bincount(trials.count, minlength=5)
    assert lengths[0] == 0 and (abs(lengths[1:] - 1000) < 130).all()
    pairs = np.bincount(np.ravel(trials.pairs), minlength=9) / 16_000
    expected = [0.25 if name in ("AX", "BY") else 0.5 / 7 for name in twelve_ax.PAIRS]
    np.testing.assert_allclose(pairs, expected, atol=0.015)
    test = twelve_ax.test_trial(twelve_ax.draw(jax.random.key(1), params), 9 + 2, params)
    assert (int(test.digit), test.pairs.tolist(), int(test.count)) == (1, [2, 4, 2, 4], 4)


def bandit(reversal, luck, first=0):
    noise = reversal_bandit.Noise(jnp.int32(first), jnp.int32(reversal), jnp.array(luck))
    return reversal_bandit.build(noise, reversal_bandit.Params())


def test_the_reversal_bandit_by_hand():
    params = reversal_bandit.Params(pulls=5, required=0.6)
    task = TASKS["reversal_bandit"]
    # The better arm pays below .8, the other one below .2; they change places before pull 2.
    luck = [0.79, 0.81, 0.5, 0.19, 0.1]
    best = [0, 0, 1, 1, 1]
    # Steps: pull, outcome, pull, …; the actions in between, here always 1, do nothing.
    shown, rewards, last, state = play(task, bandit(2, luck), params, [0, 1, 0, 1, 0, 1, 0, 1, 1])
    choose = [1, 0, 0, 0]
    outcomes = [[0, 1, 0, 1], [0, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1]]
    expected = [step for outcome in outcomes for step in (choose, outcome)]
    assert shown.tolist() == expected
    assert rewards == [0, 1, 0, 0, 0, 0, 0, 1, 0, 1]
    assert int(state.trial.better) == 3 and bool(last.correct)
    params = reversal_bandit.Params(pulls=5, required=0.6, interval=0)
    shown, rewards, last, state = play(task, bandit(2, luck), params, [0, 0, 0, 0, 1])
    on = [1, 1, 1, 1, 0]
    expected = [choose, *([now, *outcome[1:]] for now, outcome in zip(on, outcomes, strict=True))]
    assert shown.tolist() == expected
    assert rewards == [0, 1, 0, 0, 1, 1]
    assert int(state.trial.better) == 3 and bool(last.correct)
    _, _, last, state = play(task, bandit(2, luck), params, [1, 0, 0, 0, 1])
    assert int(state.trial.better) == 2 and not last.correct
    _, rewards, last, _ = play(task, bandit(2, luck), params, best)
    assert rewards == [0, 1, 0, 1, 1, 1] and last.correct
    swapped = [1 - arm for arm in best]
    assert play(task, bandit(2, luck, first=1), params, swapped)[1] == rewards


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("required", "pulls"), [(0.55, 20), (0.55, 100), (0.6, 5), (0.7, 10), (0.29, 100)]
)
def test_as_many_best_pulls_as_required_are_enough(required, pulls):
    """0.55 · 100 is 55.00000000000001 in double precision."""
    params = reversal_bandit.Params(pulls=pulls, required=required, interval=0)
    needed = round(required * pulls)
    for best, enough in ((needed, True), (needed - 1, False)):
        actions = [0] * best + [1] * (pulls - best)
        last = play(TASKS["reversal_bandit"], bandit(pulls, [0.5] * pulls), params, actions)[2]
        assert bool(last.correct) == enough


def test_a_bandit_of_one_pull_and_a_reversal_at_either_end():
    task = TASKS["reversal_bandit"]
    one = reversal_bandit.Params(pulls=1)
    assert play(task, bandit(0, [0.5]), one, [1])[2].correct  # changed places at once
    assert play(task, bandit(1, [0.5]), one, [0])[2].correct  # never
    draw = jax.vmap(lambda key: reversal_bandit.draw(key, reversal_bandit.Params()).reversal)
    reversals = np.bincount(jax.jit(draw)(jax.random.split(jax.random.key(0), 2000)))
    assert reversals[:5].sum() == 0 and reversals.shape == (16,)
    assert (abs(reversals[5:] - 2000 / 11) < 60).all()


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        *((name, "delay_steps", value) for name in TRIALS for value in (-1, 2.5, float("nan"))),
        *((name, "fixation_steps", 0) for name in TRIALS),
        *((name, "response_timeout", value) for name in TRIALS for value in (0, float("inf"))),
        *((name, "fixation_timeout", 0) for name in TRIALS),
        ("saccade", "cue_steps", 0),
        ("match_to_category", "cue_steps", 0),
        ("vibrotactile", "stimulus_steps", 0),
        ("probabilistic", "symbol_steps", 0),
        ("saccade", "level", 1),
        ("saccade", "level", -1),
        ("saccade", "level", np.int64(1)),
        ("saccade", "level", jnp.int32(1)),
        ("twelve_ax", "most_pairs", 0),
        ("twelve_ax", "target_probability", 1.5),
        ("twelve_ax", "correct_reward", float("nan")),
        ("reversal_bandit", "pulls", 0),
        ("reversal_bandit", "better", 0.1),
        ("reversal_bandit", "last_reversal", 4),
        ("reversal_bandit", "first_reversal", 16),
        ("reversal_bandit", "required", 1.01),
    ],
)
def test_a_duration_that_cannot_be_is_named_with_its_value(name, field, value):
    named = "worse|better" if field == "better" else "last_reversal" if "rev" in field else field
    with pytest.raises(ValueError, match=rf"({named}).*{value}"):
        TASKS[name].params(**{field: value})


@pytest.mark.parametrize("value", ["2", None, True, [2]])
def test_a_duration_that_is_no_number_is_named(value):
    with pytest.raises(TypeError, match="delay_steps must be a whole number"):
        saccade.Params(delay_steps=value)


@pytest.mark.parametrize("name", ["twelve_ax", "reversal_bandit"])
def test_actions_and_inputs_of_the_new_tasks(name):
    task = TASKS[name]
    assert task.actions == len(task.action_names) == 2
    assert sum(task.input_groups.values()) == task.inputs
    state, seen = task.reset(jax.random.key(0), task.params())
    assert seen.observation.shape == (task.inputs,) and int(state.phase) == base.GO


def test_probabilities_and_rewards_are_those_that_were_given():
    task, luck = TASKS["reversal_bandit"], [0.5, 0.7, 0.3, 0.05]
    params = reversal_bandit.Params(4, 0, better=0.6, worse=0.1, correct_reward=2.0)
    # The better arm pays below .6, the other one, from pull 2 on, below .1.
    assert play(task, bandit(2, luck), params, [0] * 4)[1] == [0, 2, 0, 0, 2]
    params = twelve_ax.Params(target_probability=0.0, correct_reward=0.5, wrong_reward=-2.0)
    drawn = jax.vmap(lambda key: twelve_ax.draw(key, params).pairs)(
        jax.random.split(jax.random.key(0), 50)
    )
    assert not np.isin(drawn, twelve_ax.TARGETS).any()
    rewards = play(TASKS["twelve_ax"], twelve_ax_trial(1, "AX"), params, [0, 1, 1])[1]
    assert rewards == [0, 0.5, -2.0, 0.5]


def test_the_bandits_test_trials_change_arms_halfway():
    params = reversal_bandit.Params(first_reversal=4, last_reversal=13)
    noise = reversal_bandit.draw(jax.random.key(0), params)
    trials = [reversal_bandit.test_trial(noise, index, params) for index in range(3)]
    assert [(int(trial.first), int(trial.reversal)) for trial in trials] == [(0, 8), (1, 8), (0, 8)]
