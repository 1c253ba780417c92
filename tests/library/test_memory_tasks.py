"""Each working-memory task beside a slow literal script of it, on the same stimuli and actions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax import tasks
from qagrel_jax.tasks import (
    FIXATE,
    base,
    criterion,
    make_task,
    probabilistic,
    vibrotactile,
)
from tests.reference import working_memory as scripts

TRIALS = 60
NAMES = ("saccade", "match_to_category", "probabilistic", "vibrotactile")
TASKS = {name: make_task(name) for name in NAMES}
"""AuGMEnT's four; the others have tests of their own."""


def script(name, trial, **options):
    """The literal script of the trial that the environment drew."""
    if name == "saccade":
        return scripts.saccade(int(trial.kind), **options)
    if name == "match_to_category":
        return scripts.match_to_category(
            int(trial.first), int(trial.second), trial.shown.astype(float), **options
        )
    if name == "vibrotactile":
        return scripts.vibrotactile(
            trial.frequencies.astype(float), trial.jitter.astype(float), **options
        )
    shown = int(trial.length)
    # The bait was compared with P in the environment; 0 and 1 hand on its outcome.
    bait = -1.0 if trial.red_baited else 2.0
    return scripts.probabilistic(
        trial.symbols[:shown], trial.positions[:shown], bool(trial.red_right), bait, **options
    )


@functools.cache
def functions(name):
    task = TASKS[name]
    return jax.jit(task.reset), jax.jit(task.step)


def play(name, params, seed, choose, **options):
    """Step both through one trial; return rewards, whether it was correct, and the answer."""
    reset, step = functions(name)
    key, move = jax.random.split(jax.random.key(seed))
    state, seen = reset(key, params)
    answer, literal = script(name, jax.tree.map(np.asarray, state.trial), **options)
    observation, reward, done = next(literal)
    rewards, steps, right = [], 0, False
    # Where both colors are as likely, either response is right.
    tie = getattr(state.trial, "probability", None) == 0.5
    while True:
        np.testing.assert_allclose(seen.observation, observation, atol=2e-5)
        assert float(seen.reward) == pytest.approx(reward)
        assert bool(seen.done) == done
        rewards.append(float(seen.reward))
        assert bool(seen.correct) == right
        if done:
            return rewards, right, state
        action = choose(int(state.phase), steps, answer)
        right = bool(state.phase == base.GO and (action == answer or (tie and action != FIXATE)))
        observation, reward, done = literal.send(action)
        state, seen = step(jax.random.fold_in(move, steps), state, jnp.int32(action), params)
        steps += 1


def perfect(phase, step, answer):
    return answer if phase == base.GO else FIXATE


def params_of(name, seed, **changes):
    if name == "probabilistic":
        changes["level"] = jnp.int32(seed % 8)
    return dataclasses.replace(TASKS[name].params(), **changes)


@pytest.mark.parametrize("name", TASKS)
def test_random_players_see_what_the_script_shows(name):
    rng = np.random.default_rng(0)
    outcomes = []
    for seed in range(TRIALS):
        steady = rng.choice([0.5, 0.9, 0.97])

        def choose(phase, step, answer, steady=steady):
            return 0 if rng.random() < steady else int(rng.integers(0, 3))

        rewards, correct, _ = play(name, params_of(name, seed), seed, choose)
        outcomes.append((sum(rewards) > 0, correct, len(rewards)))
    acquired, correct, lengths = map(np.array, zip(*outcomes, strict=True))
    assert 0 < acquired.sum() < TRIALS and len(set(lengths)) > 5
    assert correct.any()


@pytest.mark.parametrize("name", TASKS)
def test_a_perfect_player_gets_every_reward(name):
    for seed in range(24):
        rewards, correct, state = play(name, params_of(name, seed), seed, perfect)
        assert correct or getattr(state.trial, "probability", None) == 0.5
        paid = (
            bool(state.trial.red_baited == (state.trial.probability > 0.5))
            if (name == "probabilistic")
            else True
        )
        assert [r for r in rewards if r] == pytest.approx([0.2] + [1.5] * paid)


@pytest.mark.parametrize("name", tasks.TASKS)
def test_an_action_may_be_a_python_number(name):
    task = make_task(name)
    step, literal = jax.jit(task.step), jax.jit(task.step, static_argnums=2)
    state, _ = jax.jit(task.reset)(jax.random.key(0), task.params())
    for number, action in enumerate((FIXATE, FIXATE, 1, FIXATE)):
        key = jax.random.fold_in(jax.random.key(1), number)
        expected = step(key, state, jnp.int32(action), task.params())
        found = literal(key, state, action, task.params())
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        state, _ = expected


@pytest.mark.parametrize("name", TASKS)
def test_a_wrong_response_is_not_correct(name):
    for seed in range(8):

        def choose(phase, step, answer):
            return 3 - answer if phase == base.GO else FIXATE

        rewards, correct, state = play(name, params_of(name, seed), seed, choose)
        assert not correct or state.trial.probability == 0.5
        if name != "probabilistic":
            assert sum(rewards) == pytest.approx(0.2)


@pytest.mark.parametrize("name", TASKS)
def test_letting_go_before_go_ends_the_trial_without_reward(name):
    for moment in (2, 3, 4, 5):

        def choose(phase, step, answer, moment=moment):
            return 1 if step == moment else 0

        rewards, correct, state = play(name, params_of(name, 7), moment, choose)
        assert not correct and len(rewards) == moment + 2
        assert sum(rewards) == pytest.approx(0.0 if moment == 2 else 0.2)
        _, step = functions(name)
        state, seen = step(jax.random.key(0), state, jnp.int32(0), params_of(name, 7))
        assert bool(seen.done) and float(seen.reward) == 0 and not np.any(seen.observation)


@pytest.mark.parametrize("name", TASKS)
def test_never_fixating_and_never_responding_run_into_the_limits(name):
    rewards, _, _ = play(name, params_of(name, 0), 0, lambda *_: 1)
    assert len(rewards) == 1 + 10 + 1 and sum(rewards) == 0
    rewards, correct, _ = play(name, params_of(name, 4), 0, lambda *_: 0)
    held = 3 if name != "probabilistic" else 1 + 2
    assert len(rewards) == 1 + 2 + held + 8 + 1 and not correct
    assert sum(rewards) == pytest.approx(0.2)


def test_options_change_what_they_say():
    def lets_go_once(phase, step, answer):
        return 1 if step == 2 else perfect(phase, step, answer)

    params = params_of("saccade", 0, fixation_break="restart", fixation_reward=0.0)
    rewards, correct, _ = play(
        "saccade", params, 0, lets_go_once, restart=True, fixation_reward=0.0
    )
    assert correct and sum(rewards) == 1.5

    params = params_of("saccade", 0, delay_steps=5, cue_steps=2, blank_steps=0, correct_reward=3.0)
    task = TASKS["saccade"]
    state, seen = task.reset(jax.random.key(0), params)
    steps, rewards = 0, []
    while not seen.done:
        assert steps == 0 or bool(seen.observation.any()) == (state.phase != base.GO)
        answer = [1, 2, 2, 1][int(state.trial.kind)]
        action = perfect(int(state.phase), steps, answer)
        state, seen = task.step(jax.random.key(0), state, jnp.int32(action), params)
        rewards.append(float(seen.reward))
        steps += 1
    assert steps == 2 + 2 + 5 + 1 and rewards[-1] == 3.0


@pytest.mark.parametrize(
    "options",
    [
        {"symbols_stay": "sequence", "targets_stay": "response"},
        {"symbols_stay": "step"},
    ],
)
def test_how_long_symbols_and_targets_stay(options):
    params = params_of("probabilistic", 7, **options)
    for seed in range(3):
        _, correct, _ = play("probabilistic", params, seed, perfect, **options)
        assert correct
    # Waiting to the end shows what is on in every step of GO.
    play("probabilistic", params, 3, lambda *_: FIXATE, **options)


def test_additive_noise_is_the_same_for_every_rate():
    params = params_of("vibrotactile", 0, noise="additive")
    for seed in range(3):
        _, correct, _ = play("vibrotactile", params, seed, perfect, additive=True)
        assert correct


@pytest.mark.parametrize(
    ("ties", "probability", "right_answers"),
    [
        ("either", 0.5, {1, 2}),
        ("baited", 0.5, {1}),  # red is on the right and not baited
        ("either", 0.9, {2}),
        ("baited", 0.9, {2}),
    ],
)
def test_what_is_right_where_both_colors_are_as_likely(ties, probability, right_answers):
    params = params_of("probabilistic", 7, ties=ties)
    trial = probabilistic.Trial(
        symbols=jnp.array([2, 3, 0, 0]),
        positions=jnp.arange(4),
        length=jnp.int32(2),
        red_right=jnp.bool_(True),
        probability=jnp.float32(probability),
        red_baited=jnp.bool_(False),
    )
    state, _ = probabilistic.begin(trial, params)
    state = state._replace(phase=jnp.int32(base.GO))
    _, step = functions("probabilistic")
    after = {a: step(jax.random.key(0), state, jnp.int32(a), params)[1] for a in (1, 2)}
    assert {a for a, seen in after.items() if seen.correct} == right_answers
    assert [float(after[a].reward) for a in (1, 2)] == [1.5, 0.0]


def test_the_criteria_are_the_papers():
    """Rombouts, Bohte & Roelfsema (2015); those marked give up after trials of our choice."""
    hard_and_easy = [4, 4, 4, 4, 10, 10, 4, 4, 4, 4]  # of 20: half wrong at 2 Hz, else under 25 %
    expected = {
        "saccade": criterion.Criterion(4, (50,), 0.9, 25_000, (0, 0, 0, 0), 1, 1),
        "match_to_category": criterion.Criterion(12, (50,), 0.8, 100_000),  # ours
        "probabilistic": criterion.Criterion(
            1, (1000, 1500, 2000, 2500, 3000, 10_000, 10_000, 20_000), 0.85, 500_000
        ),
        "vibrotactile": criterion.Criterion(
            9, (50,), 0.8, 100_000, (*hard_and_easy, *hard_and_easy, *hard_and_easy), 20, 10
        ),  # ours, and the wait of ten trials
    }
    assert {name: task.criterion for name, task in TASKS.items()} == expected


def test_conditions_are_trial_types_first_cues_and_bins_of_the_first_frequency():
    key = jax.random.key(0)
    for name, index, condition in (
        *(("saccade", kind, kind) for kind in range(4)),
        ("match_to_category", 5 * 12 + 7, 5),
        ("match_to_category", 11 * 12 + 0, 11),
        ("probabilistic", 3, 0),
    ):
        task = TASKS[name]
        noise = task.draw(jax.random.clone(key), task.params())
        assert int(task.condition(task.test_trial(noise, index, task.params()))) == condition
    # Nine bins of 5 Hz from 5 Hz on.
    for frequency, condition in ((5.0, 0), (9.9, 0), (10.1, 1), (27.5, 4), (49.9, 8), (50.0, 8)):
        trial = vibrotactile.Trial(jnp.array([frequency, 55.0 - frequency]), None)
        assert int(vibrotactile.condition(trial)) == condition


def _told(name, trial):
    """What the caption of a trial says, read off the trial."""
    trial = jax.tree.map(np.asarray, trial)
    if name == "saccade":
        return f"{('pro', 'anti')[trial.kind // 2]} {('left', 'right')[trial.kind % 2]}"
    if name == "match_to_category":
        first, second = (15 + 30 * int(cue) for cue in (trial.first, trial.second))
        same = (first < 180) == (second < 180)
        return f"{first}° then {second}° ({'same' if same else 'different'})"
    if name == "probabilistic":
        color = "red" if scripts.probability_red(trial.symbols.tolist()) > 0.5 else "green"
        return f"for {color}, red {'right' if trial.red_right else 'left'}"
    if name == "vibrotactile":
        return "{:.0f} then {:.0f} Hz".format(*trial.frequencies)
    if name == "reversal_bandit":
        return f"arm {trial.first + 1} first"
    if name == "match_to_sample":
        return ", ".join(("first", "second", "third")[n % 3] for n in (trial.sample, trial.probe))
    if name == "twelve_ax_levels":  # at level 0, which has nothing before, between or after
        return "from " + "".join("12ABXYQR"[n] for n in trial.sequence[: trial.length])
    pairs = [letter + end for letter in "ABC" for end in "XYZ"]
    shown = [pairs[number] for number in trial.pairs]
    assert shown[::2] == shown[:1] * len(shown[::2]) and set(shown[1::2]) == {shown[1]}
    return f"{trial.digit + 1}, then {shown[0]} and {shown[1]} in turn"


@pytest.mark.parametrize(
    ("name", "caption"), [(n, c) for n, task in tasks.TASKS.items() for c in task.examples]
)
def test_trials_worth_looking_at_are_what_their_captions_say(name, caption):
    task = tasks.TASKS[name]
    params = task.params()
    noise = task.draw(jax.random.key(0), params)
    assert _told(name, task.test_trial(noise, task.examples[caption], params)) == caption


def draw_many(task, params, keys):
    return jax.jit(jax.vmap(lambda key: task.build(task.draw(key, params), params)))(keys)


def test_draws_have_the_stated_distributions():
    keys = jax.random.split(jax.random.key(0), 4000)
    trials = {
        name: draw_many(task, task.params(), jax.random.clone(keys)) for name, task in TASKS.items()
    }
    kinds = np.bincount(trials["saccade"].kind, minlength=4)
    assert kinds.shape == (4,) and (abs(kinds - 1000) < 120).all()
    match = trials["match_to_category"]
    center = 15 + 30 * np.stack([match.first, match.second], 1)
    assert np.std(match.shown - center) == pytest.approx(5.0, rel=0.05)
    assert len(set(zip(match.first.tolist(), match.second.tolist(), strict=True))) == 144
    first, second = np.asarray(trials["vibrotactile"].frequencies).T
    assert abs(second - first).min() >= 2 - 1e-4
    for frequency in (first, second):
        assert frequency.min() >= 5 and frequency.max() <= 50
        assert frequency.mean() == pytest.approx(27.5, abs=1)
    symbols = trials["probabilistic"]
    assert np.bincount(symbols.symbols[:, 0], minlength=10).min() > 300
    assert (np.sort(symbols.positions, 1) == np.arange(4)).all()
    assert np.corrcoef(symbols.probability, symbols.red_baited)[0, 1] > 0.5


def test_probability_of_red_is_the_papers():
    task = TASKS["probabilistic"]
    keys = jax.random.split(jax.random.key(1), 500)
    for level in range(8):
        params = dataclasses.replace(task.params(), level=jnp.int32(level))
        trials = draw_many(task, params, jax.random.clone(keys))
        length = probabilistic.LEVEL_LENGTH[level]
        assert (trials.length == length).all()
        assert trials.symbols[:, :length].max() == probabilistic.LEVEL_SYMBOLS[level] - 1
        trials = jax.tree.map(np.asarray, trials)
        for n in range(0, 500, 10):
            expected = scripts.probability_red(trials.symbols[n, :length].tolist())
            assert float(trials.probability[n]) == pytest.approx(expected, abs=1e-6)
            assert (float(trials.probability[n]) == 0.5) == (expected == 0.5)


def test_the_vibrotactile_test_holds_every_pair_twenty_times():
    task = TASKS["vibrotactile"]
    noise = task.draw(jax.random.key(0), task.params())
    count = len(task.criterion.test_allowed) * task.criterion.test_repeats
    test = jax.vmap(lambda i: task.test_trial(noise, i, task.params()).frequencies)
    frequencies = np.asarray(jax.jit(test)(jnp.arange(count)))
    pairs, times = np.unique(frequencies, axis=0, return_counts=True)
    assert len(pairs) == 30 and (times == 20).all()
    hard = [abs(pair[1] - pair[0]) == 2 for pair in frequencies[::20]]
    assert task.criterion.test_allowed == tuple(10 if h else 4 for h in hard)


def test_noise_each_step_is_drawn_anew():
    params = vibrotactile.Params(noise_each_step=True)
    _, step = functions("vibrotactile")
    trial = vibrotactile.build(vibrotactile.draw(jax.random.key(0), params), params)
    state, _ = vibrotactile.begin(trial, params)
    state = state._replace(phase=jnp.int32(base.GO))
    seen = []
    for key in jax.random.split(jax.random.key(1)):
        state, timestep = step(key, state, jnp.int32(0), params)
        seen.append(timestep.observation)
    assert np.any(seen[0] != seen[1])


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("saccade", "delay_steps", -1),
        ("saccade", "fixation_reward", -0.2),
        ("saccade", "response_timeout", 2.5),
        ("saccade", "fixation_break", "never"),
        ("match_to_category", "tuning_width", 0.0),
        ("vibrotactile", "noise", "loud"),
        ("vibrotactile", "least_difference", 30.0),
        ("probabilistic", "level", 8),
        ("probabilistic", "symbols_stay", "forever"),
    ],
)
def test_a_bad_parameter_is_named_with_its_value(name, field, value):
    with pytest.raises(ValueError, match=f"{field}.*{value}"):
        TASKS[name].params(**{field: value})


def test_an_unknown_task_lists_the_valid_ones():
    with pytest.raises(ValueError, match=r"'stroop'.*saccade.*vibrotactile"):
        make_task("stroop")


@pytest.mark.parametrize("name", TASKS)
def test_the_groups_of_inputs_are_all_inputs(name):
    assert sum(TASKS[name].input_groups.values()) == TASKS[name].inputs


@pytest.mark.parametrize("name", tasks.TASKS)
def test_an_action_that_does_not_exist_brings_nothing(name):
    """Compiled policies give -1 where there is nothing to choose."""
    task = tasks.TASKS[name]
    changes = {"better": 1.0, "worse": 1.0, "required": 0.1} if name == "reversal_bandit" else {}
    params = task.params(**changes)
    fixates = name in TASKS or name == "match_to_sample"

    def waits(state):
        if name == "twelve_ax_levels":
            return state.clock < state.trial.length - 1
        return fixates & (state.phase != base.GO)

    def play(key, action):
        trial, moves = jax.random.split(key)

        def step(carry, key):
            now = jnp.where(waits(carry[0]), base.FIXATE, action)
            state, timestep = task.step(key, carry[0], now, params)
            return (state, timestep), timestep

        return jax.lax.scan(step, task.reset(trial, params), jax.random.split(moves, 60))[1]

    keys = jax.random.split(jax.random.key(3), 20)
    many = jax.jit(jax.vmap(play, in_axes=(0, None)))
    fixation = getattr(params, "fixation_reward", getattr(params, "hold_reward", 0.0))
    for action in (-1, task.actions):
        timestep = many(jax.random.clone(keys), action)
        assert timestep.reward.max() <= fixation and not timestep.correct.any()
        assert name == "twelve_ax" or timestep.reward.min() >= 0
    assert many(jax.random.clone(keys), task.actions - 1).reward.max() > fixation


@pytest.mark.parametrize("number", [np.array, jnp.array, np.asarray])
def test_parameters_given_as_arrays_can_be_static(number):
    """A compiled function takes them, and they equal those of Python's numbers."""
    for task, names in (
        ("saccade", ("delay_steps", "correct_reward")),
        ("twelve_ax", ("most_pairs",)),
    ):
        plain = tasks.TASKS[task].params()
        given = tasks.TASKS[task].params(**{name: number(getattr(plain, name)) for name in names})
        for name in names:
            assert getattr(given, name) == pytest.approx(getattr(plain, name))
        assert isinstance(hash(given), int)
        jax.jit(lambda params: params.level)(given)


def test_noise_is_drawn_anew_for_each_stimulus_and_unit():
    """Standard normal, and of one stimulus it says nothing about that of the other."""
    keys = jax.random.split(jax.random.key(2), 4000)
    match, touch = (
        draw_many(TASKS[name], TASKS[name].params(), jax.random.clone(keys))
        for name in ("match_to_category", "vibrotactile")
    )
    center = 15 + 30 * np.stack([match.first, match.second], 1)
    units = np.concatenate([(match.shown - center) / 5, np.reshape(touch.jitter, (4000, 40))], 1)
    np.testing.assert_allclose(units.mean(0), 0, atol=0.08)
    within = np.corrcoef(units[:, :2].T), np.corrcoef(units[:, 2:].T)
    for correlation in within:
        np.testing.assert_allclose(correlation, np.eye(len(correlation)), atol=0.08)
    np.testing.assert_allclose(units.std(0), 1, atol=0.06)


def test_widths_slopes_and_noise_are_those_that_were_given():
    """What is seen at GO, of the second stimulus: a direction of 25°, and 20 Hz."""
    match, touch = TASKS["match_to_category"], TASKS["vibrotactile"]
    params = match.params(direction_noise=10.0, tuning_width=6.0)
    noise = match.draw(jax.random.key(0), params)
    noise = noise._replace(cues=jnp.array([0, 1]), jitter=jnp.array([1.0, -2.0]))
    trial = match.build(noise, params)
    np.testing.assert_allclose(trial.shown, [15 + 10, 45 - 20])
    off = (25 - 18.0 * np.arange(20) + 180) % 360 - 180
    _check_go(match, trial, params, np.exp(-(off**2) / (2 * 6**2)))
    params = touch.params(slope=0.5, noise_sd=0.2)
    jitter = jnp.stack([jnp.zeros(20), jnp.linspace(-1, 1, 20)])
    rising = 1 / (1 + np.exp(-0.5 * (20 - np.linspace(5.5, 49.5, 10))))
    rates = np.concatenate([rising, 1 - rising]) * (1 + 0.2 * np.linspace(-1, 1, 20))
    _check_go(touch, vibrotactile.Trial(jnp.array([30.0, 20.0]), jitter), params, rates)


def _check_go(task, trial, params, rates):
    state, _ = task.begin(trial, params)
    state = state._replace(phase=jnp.int32(base.GO))
    _, seen = task.step(jax.random.key(0), state, FIXATE, params)
    np.testing.assert_allclose(seen.observation, [1, *rates], atol=1e-5)


def test_symbols_for_either_color_that_balance_are_a_tie():
    """−0.3 three times and 0.9, which float32 does not add up to 0."""
    task = TASKS["probabilistic"]
    noise = task.draw(jax.random.key(0), task.params())
    for symbols in ((9, 9, 9, 2), (2, 9, 9, 9), (3, 8, 8, 8)):
        drawn = (jnp.array(symbols) + 0.5) / 10
        trial = task.build(noise._replace(symbols=drawn), task.params())
        assert trial.symbols.tolist() == list(symbols) and float(trial.probability) == 0.5


def test_frequencies_are_as_far_apart_as_was_asked_for():
    task = TASKS["vibrotactile"]
    params = task.params(least_difference=4.0)
    noise = task.draw(jax.random.key(0), params)
    uniform = jnp.stack([jnp.full(50, 0.5), jnp.linspace(0, 1, 50, endpoint=False)], 1)
    pairs = [task.build(noise._replace(uniform=u), params).frequencies for u in uniform]
    assert min(abs(float(b - a)) for a, b in pairs) == pytest.approx(4.0, abs=1e-3)
