"""Match-to-sample and 12AX by levels, beside trials written out by hand and counted draws."""

import dataclasses
import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax.tasks import TASKS, base, criterion, match_to_sample, symbols, twelve_ax_levels
from tests.library.test_task_timing import play

FIXATE, LEFT, RIGHT = 0, 1, 2
HOLD, GO = 0, 1
MARK = [1, 0, 0, 0, 0, 0, 0]
BITS = {
    "A": "0011010",
    "B": "0011011",
    "Q": "0101010",
    "R": "0101011",
    "X": "0110001",
    "Y": "0110010",
    "1": "1000001",
    "2": "1000010",
}
"""Of letters and digits, by hand: 26 + place in the alphabet, and 64 + the digit."""


def test_symbols_are_binary_numbers():
    for symbol, bits in BITS.items():
        assert symbols.codes(symbol).tolist() == [[float(bit) for bit in bits]]
    assert symbols.codes("p").tolist() == [MARK] and symbols.codes("").shape == (0, 7)
    assert len(np.unique(symbols.codes("ABCDEFGHIJKLMNOPQRSTUVWXYZ123456789"), axis=0)) == 35
    with pytest.raises(ValueError, match="must be a letter from a to z or a digit, got 'é'"):
        symbols.codes("Aé")


def sample_trial(sample, probe, **changes):
    params = match_to_sample.Params(**{"letters": "AXQBYR", "sets": 2} | changes)
    return match_to_sample.Trial(jnp.int32(sample), jnp.int32(probe)), params


@pytest.mark.parametrize("delay", [0, 1, 3])
@pytest.mark.parametrize("probe", [1, 4])
def test_match_to_sample_by_hand(delay, probe):
    task = TASKS["match_to_sample"]
    trial, params = sample_trial(1, probe, delay_steps=delay)
    hold = 2 + delay
    answer = LEFT if probe == 1 else RIGHT
    shown, rewards, last, _ = play(task, trial, params, [FIXATE] * hold + [answer])
    first, second = symbols.codes("X" + "AXQBYR"[probe])
    expected = [MARK, first, *[MARK] * delay, second, [0] * 7]
    np.testing.assert_array_equal(shown, np.array(expected, float))
    assert rewards == [0, *[0.2] * hold, 1.5] and bool(last.correct)
    for other, paid in ((FIXATE, 0), (3 - answer, -0.2)):
        _, rewards, last, _ = play(task, trial, params, [FIXATE] * hold + [other])
        assert rewards == [0, *[0.2] * hold, paid] and not last.correct
    for early, action in itertools.product(range(hold), (LEFT, RIGHT)):
        _, rewards, last, _ = play(task, trial, params, [FIXATE] * early + [action])
        assert rewards == [0, *[0.2] * early, 0] and not last.correct


def test_match_to_sample_draws_of_the_present_set_alone():
    task = TASKS["match_to_sample"]
    draw = jax.jit(
        jax.vmap(
            lambda key, level: task.build(
                task.draw(key, task.params()), dataclasses.replace(task.params(), level=level)
            ),
            in_axes=(0, None),
        )
    )
    for level in range(6):
        trials = draw(jax.random.split(jax.random.key(level), 3600), level)
        counts = np.zeros((3, 3))
        sample, probe = (np.asarray(n) - 3 * level for n in trials)
        np.add.at(counts, (sample, probe), 1)
        expected = np.full((3, 3), 300) + 300 * np.eye(3)
        assert (abs(counts - expected) < 85).all()
        noise = task.draw(jax.random.key(0), task.params())
        params = task.params(level=level)
        tested = [task.test_trial(noise, n, params) for n in range(9)]
        pairs = [(int(t.sample) - 3 * level, int(t.probe) - 3 * level) for t in tested]
        assert pairs == list(itertools.product(range(3), repeat=2))


def test_the_letters_were_drawn_as_told():
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    drawn = np.random.default_rng(0).permutation(26)
    # The mark is "p"; capitals are all different from it.
    assert match_to_sample.Params().letters == "".join(letters[drawn])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sets": 0}, r"sets must be in \[1, 8\], got 0"),
        ({"sets": 9}, r"sets must be in \[1, 8\], got 9"),
        ({"letters": "ABCABC"}, "letters must be different capitals, A to Z, got 'ABCABC'"),
        ({"letters": "ABCpDE"}, "letters must be different capitals"),
        ({"letters": "ABC0DE"}, "letters must be different capitals"),
        ({"letters": "ABCDE"}, "letters must be at least 6, three for each set, got 'ABCDE'"),
        ({"letters": "ABCDE!"}, "ABCDE!"),
        ({"letters": 3}, "letters must be text, got 3"),
        ({"level": 2}, "level.*2"),
        ({"delay_steps": -1}, "delay_steps.*-1"),
        ({"wrong_reward": float("nan")}, "wrong_reward.*nan"),
    ],
)
def test_a_bad_parameter_of_match_to_sample_is_named(changes, says):
    with pytest.raises((ValueError, TypeError), match=says):
        match_to_sample.Params(**{"sets": 2} | changes)


def is_target(sequence):
    """By the rule of the task, symbol by symbol."""
    digit = previous = None
    for symbol in sequence:
        target = (digit, previous, symbol) in (("1", "A", "X"), ("2", "B", "Y"))
        digit, previous = symbol if symbol in "12" else digit, symbol
    return target


def made(sequence):
    numbers = ["12ABXYQR".index(symbol) for symbol in sequence]
    padded = jnp.array(numbers + [0] * (8 - len(numbers)), jnp.int32)
    return twelve_ax_levels.Trial(padded, jnp.int32(len(numbers)), jnp.bool_(is_target(sequence)))


@pytest.mark.parametrize("sequence", ["1AX", "2AX", "12BY", "1QRBX", "21BAX", "QB12QABY"])
def test_12ax_by_levels_by_hand(sequence):
    task, params = TASKS["twelve_ax_levels"], twelve_ax_levels.Params()
    right = HOLD if sequence in ("2AX", "1QRBX") else GO
    trial, length = made(sequence), len(sequence)
    shown, rewards, last, _ = play(task, trial, params, [HOLD] * (length - 1) + [right])
    expected = [[float(bit) for bit in BITS[symbol]] for symbol in sequence]
    np.testing.assert_array_equal(shown, [*expected, [0] * 7])
    assert rewards == [*[0] * length, 1.5] and bool(last.correct)
    _, rewards, last, _ = play(task, trial, params, [HOLD] * (length - 1) + [1 - right])
    assert rewards == [0] * (length + 1) and not last.correct
    for early in range(length - 1):
        _, rewards, last, _ = play(task, trial, params, [HOLD] * early + [GO])
        assert rewards == [0] * (early + 2) and not last.correct


def drawn(level, number):
    """Return sequences as text, and whether each was said to be a target."""
    task = TASKS["twelve_ax_levels"]

    def one(key):
        noise = task.draw(key, task.params())
        return task.build(noise, dataclasses.replace(task.params(), level=jnp.int32(level)))

    trials = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(level), number))
    rows = zip(*(np.asarray(part) for part in trials), strict=True)
    return [("".join("12ABXYQR"[n] for n in s[:length]), bool(t)) for s, length, t in rows]


@pytest.mark.parametrize("level", range(5))
def test_what_a_target_is_follows_from_what_is_shown(level):
    trials = drawn(level, 600)
    assert all(said == is_target(sequence) for sequence, said in trials)
    assert {said for _, said in trials} == {True, False}


def removals(sequence, level):
    """Return the trial of three that ``sequence`` may have grown from, at this level; None: not."""
    extra = "QRAB"
    if level == 0:
        fits = len(sequence) == 3
        return sequence if fits else None
    if level == 1:
        fits = len(sequence) == 4 and sequence[0] in "12"
        return sequence[1:] if fits else None
    short = sequence[1:] if sequence[1] in "12" and sequence[0] in "12" else sequence
    more = len(short) - 3
    if level == 2:
        fits = 1 <= more <= 2 and all(symbol in extra for symbol in short[1:-2])
        return short[0] + short[-2:] if fits else None
    if level == 3:
        fits = 1 <= more <= 2 and all(symbol in extra for symbol in short[2:-1])
        return short[:2] + short[-1] if fits else None
    letters = "".join(symbol for symbol in sequence[:-1] if symbol not in "12")
    digits = [symbol for symbol in sequence[:-1] if symbol in "12"]
    fits = len(digits) in (1, 2) and 3 <= len(letters) <= 5 and any(x in "AB" for x in letters)
    return digits[-1] + ("A" if "A" in letters else "B") + sequence[-1] if fits else None


def test_levels_grow_as_told():
    """Half the trials are of the present level, the others of those before, alike."""
    starts = [f"{d}{a}{x}" for d in "12" for a in "AB" for x in "XY"]
    first = [sequence for sequence, _ in drawn(0, 2400)]
    shares = {start: first.count(start) / 2400 for start in starts}
    expected = {s: 1 / 4 if s in ("1AX", "2BY") else 1 / 12 for s in starts}
    assert shares == pytest.approx(expected, abs=0.035)
    assert sum(shares.values()) == pytest.approx(1)

    second = [sequence for sequence, _ in drawn(1, 2400)]
    longer = [s for s in second if len(s) == 4]
    assert len(longer) == pytest.approx(1200, abs=110)
    assert sum(s[0] == "1" for s in longer) == pytest.approx(600, abs=90)
    assert all(removals(s, 1) in starts for s in longer)

    for level in (2, 3, 4):
        every = [sequence for sequence, _ in drawn(level, 2400)]
        short = [s for s in every if len(s) == 3]
        assert len(short) == pytest.approx(1200 / level, abs=110)
        grown = [s for s in every if any(removals(s, n) in starts for n in range(1, level + 1))]
        assert len(grown) + len(short) == 2400
        newest = [s for s in grown if not any(removals(s, n) in starts for n in range(1, level))]
        assert newest and all(len(s) <= (8 if level == 4 else 6) for s in newest)
        assert {symbol for s in newest for symbol in s} == set("12ABXYQR")


def test_level_2_and_3_have_one_or_two_letters_and_half_a_digit_before():
    task = TASKS["twelve_ax_levels"]
    keys = jax.random.split(jax.random.key(9), 2000)
    for level, most in ((2, 2), (3, 2), (4, 4)):
        params = task.params(level=level)

        def one(key, params=params):
            noise = task.draw(key, params)._replace(newest=jnp.bool_(True))
            return task.build(noise, params).length, noise.before

        length, before = map(np.asarray, jax.jit(jax.vmap(one))(jax.random.clone(keys)))
        letters = length - 3 - before
        counts = np.bincount(letters, minlength=5)
        kinds = {2: (1, 2), 3: (1, 2), 4: (2, 3, 4)}[level]
        expected = [2000 / len(kinds) * (n in kinds) for n in range(5)]
        assert (abs(counts - expected) < 110).all() and letters.max() == most
        assert before.sum() == pytest.approx(1000, abs=110)


def newest(level, number):
    """Return trials of this very level as text, with their noise."""
    task = TASKS["twelve_ax_levels"]
    params = task.params(level=level)

    def one(key):
        noise = task.draw(key, params)._replace(newest=jnp.bool_(True))
        return task.build(noise, params), noise

    trials, noise = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(20 + level), number))
    rows = zip(np.asarray(trials.sequence), np.asarray(trials.length), strict=True)
    return ["".join("12ABXYQR"[n] for n in s[:length]) for s, length in rows], noise


@pytest.mark.parametrize("level", [2, 3, 4])
def test_each_letter_to_ignore_is_drawn_alone(level):
    """All pairs are equally likely, and what is shown has these letters beside the trial's own."""
    sequences, noise = newest(level, 4000)
    letters = np.asarray(noise.letters)
    for i, j in itertools.combinations(range(2 if level < 4 else 4), 2):
        counts = np.zeros((4, 4))
        np.add.at(counts, (letters[:, i], letters[:, j]), 1)
        assert (abs(counts - 250) < 75).all()  # sd: 15
    for sequence, row in zip(sequences, letters, strict=True):
        shown = Counter(symbol for symbol in sequence[:-1] if symbol not in "12")
        drawn_first = Counter("QRAB"[n] for n in row[: shown.total() - 1])
        own = shown - drawn_first
        assert shown == own + drawn_first and own in (Counter("A"), Counter("B"))


def test_level_4_puts_letters_anywhere_before_the_last_two_symbols():
    """Of 1AX and two letters a third each is dd1AX, d1dAX and 1ddAX: 1/2 · 2/3 = 1/3.

    The first letter goes before or after the 1. Of three places the second has two on the side of
    the first.
    """
    sequences, noise = newest(4, 6000)
    plain = [s for s, before in zip(sequences, noise.before, strict=True) if not before]
    two = [s for s in plain if len(s) == 5]
    first = [next(i for i, symbol in enumerate(s) if symbol in "12") for s in two]
    shares = np.bincount(first, minlength=4) / len(two)
    assert shares == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0], abs=0.07)
    assert all(s[-2] in "AB" and s[-1] in "XY" for s in sequences)


@pytest.mark.parametrize("level", [2, 3, 4])
def test_the_other_trials_are_of_all_levels_before_alike(level):
    """Told from what has been drawn: ``older`` in [n/level, (n+1)/level) means level n."""
    task = TASKS["twelve_ax_levels"]
    params, keys = task.params(level=level), jax.random.split(jax.random.key(40), 600)

    def one(key):
        noise = task.draw(key, params)._replace(newest=jnp.bool_(False))
        return task.build(noise, params), noise

    trials, noise = jax.jit(jax.vmap(one))(keys)
    older = np.floor(np.asarray(noise.older) * level).astype(int)
    for n in range(level):
        alone = task.params(level=n)
        chosen = jax.tree.map(lambda leaf, n=n: leaf[older == n], noise)
        again = jax.vmap(lambda x, p=alone: task.build(x._replace(newest=jnp.bool_(True)), p))
        expected = again(chosen)
        assert (older == n).sum() > 80
        for ours, theirs in zip(trials, expected, strict=True):
            np.testing.assert_array_equal(np.asarray(ours)[older == n], theirs)


def test_the_trials_looked_at_start_from_each_short_one():
    task = TASKS["twelve_ax_levels"]
    noise = task.draw(jax.random.key(0), task.params())
    for level in range(5):
        trials = [task.test_trial(noise, n, task.params(level=level)) for n in range(8)]
        every = ["".join("12ABXYQR"[n] for n in t.sequence[: int(t.length)]) for t in trials]
        assert all(bool(t.target) == is_target(s) for t, s in zip(trials, every, strict=True))
        ends = [s[-1] for s in every]
        assert ends == ["X", "Y", "Y", "X", "Y", "X", "Y", "X"]
        if level == 0:
            assert every == ["1AX", "2BY", "1AY", "1BX", "1BY", "2AX", "2AY", "2BX"]


def test_criteria_levels_and_units():
    """85 of 100, and more than 85 of 100; the limit of 200,000 trials is ours."""
    sample, levels = TASKS["match_to_sample"], TASKS["twelve_ax_levels"]
    assert sample.criterion == criterion.Criterion(1, (100,) * 6, 0.85, 30_000)
    assert levels.criterion == criterion.Criterion(1, (100,) * 5, 0.86, 200_000)
    assert (sample.levels(sample.params(sets=4)), levels.levels(levels.params())) == (4, 5)
    assert (sample.actions, levels.actions, sample.inputs, levels.inputs) == (3, 2, 7, 7)
    state, _ = levels.reset(jax.random.key(0), levels.params())
    assert int(state.phase) == base.GO and int(levels.condition(state.trial)) == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"level": 5}, "level.*5"), ({"level": -1}, "level.*-1"), ({"correct_reward": -1.0}, "-1")],
)
def test_a_bad_parameter_of_12ax_by_levels_is_named(changes, says):
    with pytest.raises(ValueError, match=says):
        twelve_ax_levels.Params(**changes)
