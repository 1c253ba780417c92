"""Populations: a network's fate is its own, and finished networks stay as they are."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax.environments import from_task
from qagrel_jax.plain import to_plain
from qagrel_jax.population import Setup, population, recording
from qagrel_jax.population.packing import Packed
from qagrel_jax.rules import augment_continuous, synapses
from qagrel_jax.rules.augment import AugmentConfig
from qagrel_jax.rules.recollect import RecollectConfig
from qagrel_jax.rules.workmate import WorkmateConfig
from qagrel_jax.tasks import TimeStep, contract, make_task, saccade
from qagrel_jax.tasks import criterion as criteria

STEPS = 64


def setup(feedback="tied", **criterion):
    task = make_task("saccade")
    easy = dataclasses.replace(task.criterion, **criterion)
    return Setup(task, task.params(), AugmentConfig(inputs=task.inputs, feedback=feedback), easy)


def start(networks, shared, **options):
    each = np.ones(networks)
    options = {"steps": STEPS} | options
    return Packed(shared, jax.random.key(3), 0.15 * each, 0.2 * each, **options)


def alone(packed, number):
    return jax.tree.map(np.asarray, packed.network(number))


def test_a_network_learns_the_same_in_any_company_and_any_block():
    shared = setup()
    few, many = start(8, shared), start(10, shared, block=5)
    for _ in range(6):
        few.advance()
        many.advance()
    for number in (0, 7):
        chex.assert_trees_all_close(alone(few, number), alone(many, number), rtol=1e-5, atol=1e-6)
    trials = many.networks.progress.trials
    assert trials.min() > 5 and len(set(trials.tolist())) > 2


def test_finished_networks_change_no_more_and_the_others_go_on():
    # One trial of each type, right or wrong, which chance brings sooner or later, or a limit.
    shared = setup(windows=(1,), accuracy=1e-9, max_trials=8, test_allowed=())
    packed = start(8, shared)
    before = None
    while packed.learning.size:
        finished = np.setdiff1d(np.arange(8), packed.learning)
        before = {n: alone(packed, n) for n in finished}
        packed.advance()
        for number, network in before.items():
            chex.assert_trees_all_equal(alone(packed, number), network)
    assert before, "all finished in the same turn, so nothing was tested"
    status = packed.networks.progress.status
    assert set(status.tolist()) == {criteria.CONVERGED, criteria.GAVE_UP}
    for trials, state in zip(packed.trials_to_convergence(), status, strict=True):
        assert (trials is None) == (state == criteria.GAVE_UP)


def test_a_run_taken_up_again_goes_on_bit_for_bit():
    shared = setup()
    whole, first = start(8, shared), start(8, shared)
    for _ in range(2):
        whole.advance()
        first.advance()
    again = start(8, shared)
    again.restore(first.state())
    whole.advance()
    again.advance()
    chex.assert_trees_all_equal(again.networks, whole.networks)
    with pytest.raises(ValueError, match="expected"):
        start(8, setup("kolen_pollack")).restore(first.state())


def test_feedback_that_starts_tied_is_tied_feedback():
    """w' = Wᵀ at the start and the same changes: the same learning, and w' = Wᵀ at the end."""
    tied = start(8, setup())
    mixed = start(8, setup("kolen_pollack"), tied=np.arange(8) < 4)
    for _ in range(6):
        tied.advance()
        mixed.advance()
    moved = 0
    for number in range(8):
        ours, theirs = (alone(packed, number).learner for packed in (mixed, tied))
        forward = ours.weights.regular_q[1:], ours.weights.memory_q
        gap = max(np.abs(f - b).max() for f, b in zip(forward, ours.feedback, strict=True))
        if number < 4:
            assert gap < 1e-6
            chex.assert_trees_all_close(ours.weights, theirs.weights, rtol=1e-4, atol=1e-5)
        else:
            assert gap > 0.01
        moved = max(moved, np.abs(ours.tags.memory_q).max())
    assert moved > 0


def test_every_turn_has_random_numbers_of_its_own():
    packed = start(8, setup())
    before = packed.state()
    after = []
    for turn in (0, 1):
        packed.restore(before | {"turn": np.int64(turn)})
        packed.advance()
        assert packed.turn == turn + 1
        after.append(np.array(packed.networks.learner.weights.memory_q))
    assert (after[0] != after[1]).any((0, 1)).all()


def test_a_state_taken_is_a_copy():
    """Neither going on nor a change of one's own reaches the other."""
    packed = start(8, setup())
    packed.advance()
    taken, plain = packed.state(), to_plain(packed.networks)
    before = jax.tree.map(np.array, packed.networks)
    packed.advance()
    assert (packed.networks.learner.weights.memory_q != before.learner.weights.memory_q).any()
    jax.tree.map(np.testing.assert_array_equal, plain, before)
    packed.restore(taken)
    jax.tree.map(np.testing.assert_array_equal, packed.networks, before)


@pytest.mark.parametrize("change", [{"leaf99": np.ones(8)}, {"leaf0": None}, {"turn": None}])
def test_a_state_of_more_or_fewer_arrays_is_refused(change):
    packed = start(8, setup())
    state = {k: v for k, v in (packed.state() | change).items() if v is not None}
    before = packed.networks
    with pytest.raises(ValueError, match=r"expected the .* arrays of a population's state"):
        packed.restore(state)
    assert packed.networks is before


def test_tied_feedback_cannot_be_untied():
    assert start(2, setup()).networks.settings.tied.all()
    assert start(2, setup(), tied=np.ones(2, bool)).networks.settings.tied.all()
    assert not start(2, setup("kolen_pollack")).networks.settings.tied.any()
    with pytest.raises(ValueError, match="tied=False needs a config with feedback='kolen_pollack'"):
        start(2, setup(), tied=np.array([True, False]))


def test_a_state_of_other_steps_is_refused():
    """Its random numbers would be others from here on."""
    state = start(4, setup()).state()
    with pytest.raises(ValueError, match=f"steps must be {STEPS}, as when .*, got {STEPS // 2}"):
        start(4, setup(), steps=STEPS // 2).restore(state)
    del state["steps"]  # as versions wrote it that did not ask
    start(4, setup(), steps=STEPS // 2).restore(state)


@pytest.mark.parametrize("number", [np.array, jnp.int32], ids=["numpy", "jax"])
def test_sizes_may_be_arrays_of_one_number(number):
    options = {"networks": number(2), "steps": number(4), "block": number(2)}
    packed = Packed(setup(), jax.random.key(0), **options)
    packed.advance()
    assert len(packed) == 2 and packed.turn == 1


def fixating(learner):
    """The same networks with Q values of 1, 0, 0 whatever they see: they fixate and wait."""
    learner = jax.tree.map(np.zeros_like, learner)
    learner.weights.regular_q[0, 0] = 1.0
    return learner


WAITING = 1 + 2 + 3 + 8  # blank, fixation, cue and delay, and nothing said at GO


def test_a_frozen_test_asks_its_trials_in_order_of_networks_that_neither_learn_nor_explore():
    shared = setup(test_allowed=(1, 1, 1, 1))
    shared = dataclasses.replace(shared, config=dataclasses.replace(shared.config, exploration=1.0))
    packed = start(12, shared, steps=WAITING + 1)
    packed.networks = packed.networks._replace(learner=fixating(packed.networks.learner))
    packed.networks.progress.status[:] = criteria.TESTING
    packed.networks.progress.test_index[:] = np.arange(12) % 3
    before = packed.network(0).learner.weights
    packed.advance()
    progress, trials = packed.networks.progress, packed.networks.trial_state
    # One trial has ended in every network, and the next one begun.
    np.testing.assert_array_equal(progress.test_index, np.arange(12) % 3 + 1)
    np.testing.assert_array_equal(trials.trial.kind, progress.test_index)
    np.testing.assert_array_equal((trials.phase, trials.clock), 0)
    for number in range(12):
        chex.assert_trees_all_equal(packed.network(number).learner.weights, before)
    assert (progress.trials == 0).all() and (progress.seen == 0).all()


def test_trials_are_of_the_networks_shaping_level():
    task = make_task("probabilistic")
    shared = Setup(task, task.params(), AugmentConfig(inputs=45), task.criterion)
    level = np.repeat(np.arange(8), 12)
    packed = start(96, shared, steps=32)  # longer than any trial
    trial = packed.networks.trial_state.trial
    assert (trial.length == 1).all() and set(trial.symbols.ravel().tolist()) == {0, 1}
    packed.networks.progress.level[:] = level
    packed.advance()
    trial = packed.networks.trial_state.trial
    np.testing.assert_array_equal(packed.networks.progress.level, level)
    np.testing.assert_array_equal(trial.length, np.array([1, 1, 1, 1, 1, 2, 3, 4])[level])
    for one, available in enumerate([2, 4, 6, 8, 10, 10, 10, 10]):
        drawn = trial.symbols[:, level == one]
        assert available - 2 <= drawn.max() < available


def test_a_recording_shows_the_trial_asked_for_to_a_network_that_neither_learns_nor_explores():
    shared = setup()
    shared = dataclasses.replace(shared, config=dataclasses.replace(shared.config, exploration=1.0))
    learner = fixating(start(1, shared).networks.learner)
    learner = jax.tree.map(lambda x: x[..., 0], learner)
    for index, (mark, cue) in enumerate([(0, 2), (0, 3), (1, 2), (1, 3)]):
        trial = recording.record(shared, learner, index, jax.random.key(5))
        seen = np.zeros((WAITING + 1, 4))
        seen[1:6, mark] = 1  # pro or anti, until GO
        seen[3, cue] = 1  # left or right
        np.testing.assert_array_equal(trial.observation, seen)
        np.testing.assert_array_equal(trial.phase, [0, 1, 1, 2, 2, 2, *[3] * 8, 4])
        np.testing.assert_array_equal(trial.clock, [0, 0, 1, 0, 1, 2, *range(8), 0])
        # Each step's prediction error would change the 1, that of the reward among them.
        np.testing.assert_array_equal(trial.q_values, np.tile([1.0, 0.0, 0.0], (WAITING + 1, 1)))
        np.testing.assert_array_equal(trial.action, 0)
        np.testing.assert_allclose(trial.reward, np.where(np.arange(WAITING + 1) == 3, 0.2, 0))
        assert not trial.correct


def test_a_recording_is_one_whole_trial():
    shared = setup()
    packed = start(8, shared)
    trial = recording.record(shared, packed.network(0).learner, 2, jax.random.key(0))
    assert trial.phase[0] == 0 and trial.phase[-1] == 4
    assert trial.memory.shape == (len(trial.phase), 4)
    with pytest.raises(ValueError, match="did not end in 1 steps"):
        recording.record(shared, packed.network(0).learner, 2, jax.random.key(1), steps=1)


def test_bad_populations_are_named():
    shared = setup()
    with pytest.raises(ValueError, match=r"must be \[networks\], .* got shapes \(0,\) and"):
        start(0, shared)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        start(2, shared, steps=0)
    with pytest.raises(ValueError, match="substeps must be at least 1, got 0"):
        dataclasses.replace(shared, substeps=0)
    with pytest.raises(ValueError, match=r"saccade has 4 inputs, got config.inputs = 5"):
        dataclasses.replace(shared, config=AugmentConfig(inputs=5))
    with pytest.raises(ValueError, match=r"saccade has 3 actions, got config.actions = 2"):
        dataclasses.replace(shared, config=AugmentConfig(inputs=4, actions=2))
    with pytest.raises(ValueError, match="tag_decay must be in"):
        Packed(shared, jax.random.key(0), np.full(2, 0.15), np.array([0.2, 1.5]))


def test_settings_left_out_are_the_configs():
    shared = setup()
    shared = dataclasses.replace(
        shared, config=dataclasses.replace(shared.config, learning_rate=0.1, tag_decay=0.3)
    )
    given = Packed(shared, jax.random.key(0), np.full(3, 0.1), np.full(3, 0.3)).networks
    for options in ({"networks": 3}, {"tag_decay": np.full(3, 0.3)}, {"learning_rate": [0.1] * 3}):
        networks = Packed(shared, jax.random.key(0), **options).networks
        jax.tree.map(np.testing.assert_array_equal, given, networks)
    for options in ({}, {"networks": 3, "tag_decay": [0.3]}, {"learning_rate": [[0.1]]}):
        with pytest.raises(ValueError, match="a number for each network, or one number with"):
            Packed(shared, jax.random.key(0), **options)


def test_settings_reach_their_network():
    rates = np.where(np.arange(8) < 4, 0.0, 0.3)
    packed = Packed(setup(), jax.random.key(0), rates, np.full(8, 0.2), steps=STEPS)
    before = np.array(packed.networks.learner.weights.memory_q)
    packed.advance()
    moved = np.abs(packed.networks.learner.weights.memory_q - before).max((0, 1))
    assert not moved[:4].any() and moved[4:].all()


def _whole(timestep):
    return timestep._replace(reward=jnp.round(timestep.reward))


def _whole_numbers(timestep):
    return TimeStep(*(jnp.asarray(x).astype(jnp.int8) for x in _whole(timestep)))


def _own(task, change):
    """The task, whose time steps are changed."""

    def changed(function):
        def answer(*arguments):
            state, timestep = function(*arguments)
            return state, change(timestep)

        return answer

    return task._replace(begin=changed(task.begin), step=changed(task.step))


def test_an_own_tasks_time_steps_may_be_whole_numbers():
    results = []
    for change in (_whole, _whole_numbers):
        task = _own(make_task("saccade"), change)
        shared = dataclasses.replace(setup(), task=task)
        packed = start(3, shared)
        packed.advance()
        learner = jax.tree.map(lambda x: x[..., 0], packed.networks.learner)
        trial = recording.record(shared, learner, 1, jax.random.key(0), 40)
        world, observation = from_task(task).reset(jax.random.key(0))
        answer = from_task(task).step(jax.random.key(1), world, 0)[1:]
        results.append((packed.networks.learner, trial, observation, answer))
    jax.tree.map(np.testing.assert_array_equal, *results)
    dtypes = [jax.tree.map(lambda x: np.asarray(x).dtype, result) for result in results]
    assert dtypes[0] == dtypes[1]


def recollect_setup(**options):
    task = make_task("saccade")
    params = options.pop("params", saccade.RECOLLECT)
    criterion = saccade.recollect_criterion(params)
    config = RecollectConfig(inputs=task.inputs, **options)
    return Setup(task, params, config, criterion)


@pytest.mark.parametrize(
    "feedback", [pytest.param("tied", marks=pytest.mark.slow), "kolen_pollack"]
)
def test_recollects_frozen_test_keeps_every_array_to_the_bit_and_resets_nothing(feedback):
    shared = recollect_setup(exploration=1.0, feedback=feedback, end_input=True)
    packed = start(6, shared, steps=48)
    packed.advance()
    before = jax.tree.map(np.array, packed.networks.learner)
    assert all(np.any(trace) for trace in before.traces)
    # Errors are allowed, so that the test goes on from trial to trial.
    criterion = dataclasses.replace(shared.criterion, test_allowed=(1,) * 40)
    packed.setup = dataclasses.replace(shared, criterion=criterion)
    packed.networks.progress.status[:] = criteria.TESTING
    trials = packed.networks.progress.trials.copy()
    packed.advance()
    after = jax.tree.map(np.array, packed.networks.learner)
    progress = packed.networks.progress
    assert (progress.status == criteria.TESTING).all() and progress.test_index.max() > 2
    assert (progress.trials == trials).all()
    for new, old in zip(
        jax.tree.leaves((after.weights, after.feedback)),
        jax.tree.leaves((before.weights, before.feedback)),
        strict=True,
    ):
        assert new.tobytes() == old.tobytes()
    assert np.any(after.memory != before.memory) and np.any(after.memory)
    packed.networks.progress.status[:] = criteria.TRAINING
    packed.advance()
    for new, old in zip(packed.networks.learner.weights, after.weights, strict=True):
        assert np.any(new != old)


def test_a_curriculum_shows_each_levels_delay():
    params = saccade.Params(blank_steps=0, delay_steps=16, curriculum=True)
    shared = recollect_setup(params=params)
    packed = start(6, shared, steps=1)
    assert (packed.networks.trial_state.trial.delay == 4).all()
    packed.networks.progress.level[:] = np.arange(6) % 3
    packed.networks.timestep.done[:] = True
    packed.advance()
    assert packed.networks.trial_state.trial.delay.tolist() == [4, 8, 16, 4, 8, 16]
    learner = packed.network(0).learner
    for index in range(4):
        seen = recording.record(shared, learner, index, jax.random.key(0))
        assert set(seen.units) == {"gate", "memory"} and seen.memory.shape[1] == 7
        np.testing.assert_array_equal(seen.units["gate"].shape, seen.memory.shape)


def test_of_workmate_what_its_blocks_hold_is_recorded():
    task, config = make_task("match_to_sample"), WorkmateConfig(inputs=7, time_cells=0)
    shared = Setup(task, task.params(), config, task.criterion)
    learner = start(2, shared).network(0).learner
    seen = recording.record(shared, learner, 0, jax.random.key(0))
    widths = {name: values.shape[1] for name, values in seen.units.items()}
    assert list(widths.items()) == [
        ("regular", 15),
        ("match", 2),
        ("gate", 2),
        ("memory", 30),
        ("gate_q_values", 3),
    ]
    assert seen.memory is seen.units["memory"]
    held = np.zeros(30)
    gate_q, gate = seen.units["gate_q_values"], seen.units["gate"]
    for t in range(len(seen.observation)):
        np.testing.assert_allclose(seen.memory[t], held, atol=1e-6)
        block = int(gate_q[t].argmax())
        if t < len(gate) - 1:
            np.testing.assert_array_equal(gate[t], np.arange(2) == block)
        if block < 2:
            own = slice(15 * block, 15 * (block + 1))
            held[own] = (seen.observation[t] @ learner.projection)[own]


def test_the_two_choices_of_a_step_draw_numbers_of_their_own():
    key = jax.random.key(0)
    one = population._gumbel(key, (3,), 1000)
    action, gate = population._gumbel(jax.random.clone(key), (3, 3), 1000)
    assert one.shape == action.shape == gate.shape == (1000, 3)
    together = np.corrcoef(np.concatenate([action, gate], axis=1).T) - np.eye(6)
    assert abs(together).max() < 0.15  # sd: 0.03


def test_units_are_recorded_under_their_names_in_the_rules_order():
    shared = setup()
    shared = dataclasses.replace(shared, config=dataclasses.replace(shared.config, regular=2))
    seen = recording.record(shared, start(2, shared).network(0).learner, 0, jax.random.key(0))
    widths = {name: values.shape[1] for name, values in seen.units.items()}
    assert list(widths.items()) == [("regular", 2), ("memory", 4)]
    assert seen.regular is seen.units["regular"] and seen.memory is seen.units["memory"]


def test_a_recording_of_recollect_goes_on_from_what_it_remembers():
    shared = recollect_setup()
    learner = start(2, shared).network(0).learner
    full = learner._replace(memory=np.ones_like(learner.memory))
    empty, kept = (recording.record(shared, x, 0, jax.random.key(0)) for x in (learner, full))
    assert (kept.memory[0] > empty.memory[0]).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"substeps": 2}, "substeps must be 1 with this rule, got 2"),
        ({"cooling": 100}, "max_boltzmann', got 100 with 'epsilon_greedy'"),
        ({"params": saccade.Params(delay_steps=16, curriculum=True)}, "each of the 3 shaping lev"),
        (
            {"criterion": criteria.Criterion(3, (50,), 0.8, 100)},
            "criterion.conditions must be 4, those of saccade, got 3",
        ),
        (
            {"criterion": criteria.Criterion(5, (50,), 0.8, 100)},
            "criterion.conditions must be 4, those of saccade, got 5",
        ),
        (
            {"config": RecollectConfig(inputs=4, gate_rate=np.array([0.1, 0.2]))},
            r"config.gate_rate must be one number for all networks, got shape \(2,\)",
        ),
        (
            {"params": saccade.Params(level=np.zeros(2, int))},
            r"params.level must be one number for all networks, got shape \(2,\)",
        ),
    ],
)
def test_what_a_setup_cannot_be_is_said(change, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(recollect_setup(), **change)


def test_exploration_sharpens_with_trials():
    """1/T = 1 + (10/π) arctan(t/T*), worked out by hand for t = 0, T* and without end."""
    shared = twelve_ax_setup(cooling=2000)
    expected = {0: 1.0, 2000: 1 + 10 / 4, 10**9: 6.0}
    choose = population._chooser(shared, np.array(list(expected)))
    q_values = np.array([[0.0] * 3, [1.0] * 3])
    for gap, draws in ((-0.99, (1, 1, 1)), (-2.0, (0, 1, 1)), (-5.0, (0, 0, 1))):
        # With ε = 1 the worse action is drawn where gumbel_0 − gumbel_1 exceeds 1/T.
        gumbel = np.array([[-gap] * 3, [0.0] * 3])
        assert choose(gumbel, q_values, np.ones(3)).tolist() == list(draws)


def twelve_ax_setup(**options):
    task = make_task("twelve_ax")
    config = AugmentConfig(
        inputs=task.inputs, actions=2, memory=4, leak=synapses.hybrid_leak(4, 0.7, 1.0)
    )
    criterion = dataclasses.replace(task.criterion, consecutive=8, max_trials=400)
    return Setup(task, task.params(), config, criterion, **options)


def test_networks_with_different_leaks_learn_12ax_to_responses_in_a_row():
    shared = twelve_ax_setup(cooling=50)
    packed = start(12, shared)
    while packed.learning.size:
        packed.advance()
    progress = packed.networks.progress
    converged = progress.status == criteria.CONVERGED
    assert converged.any()
    assert (progress.streak[converged] >= 8).all()
    assert (progress.trials[~converged] == 400).all()


@pytest.mark.parametrize("number", [np.array, jnp.array, jnp.float32, np.float32])
def test_numbers_given_as_arrays_are_those_of_python(number):
    """All that is checked is hashed, too: a ``Setup`` is a static argument."""
    task = make_task("saccade")
    given = AugmentConfig(
        inputs=number(4).astype(int),
        weight_range=number(0.5),
        learning_rate=number(0.25),
        tag_decay=number(0.5),
        leak=synapses.hybrid_leak(4, number(0.5), 1.0),
    )
    shared = Setup(task, saccade.Params(level=number(0).astype(int)), given, task.criterion)
    plain = AugmentConfig(
        inputs=4, weight_range=0.5, learning_rate=0.25, tag_decay=0.5, leak=(0.5, 0.5, 1.0, 1.0)
    )
    expected = Setup(task, saccade.Params(level=0), plain, task.criterion)
    assert shared == expected and hash(shared) == hash(expected)
    packed = Packed(shared, jax.random.key(0), networks=2, steps=2)
    assert packed.networks.settings.learning_rate.tolist() == [0.25, 0.25]


def test_settings_that_differ_are_packeds_arguments():
    task, config = make_task("saccade"), AugmentConfig(4, learning_rate=np.array([0.1, 0.2]))
    with pytest.raises(
        ValueError, match=r"config.learning_rate must be one .*\(2,\): Packed takes"
    ):
        Setup(task, task.params(), config, task.criterion)
    with pytest.raises(TypeError, match=r"config\.discount must be known when compiling"):
        jax.jit(
            lambda discount: Setup(
                task, task.params(), AugmentConfig(4, discount=discount), task.criterion
            )
        )(0.9)


@pytest.mark.parametrize(
    "choose", [population.max_boltzmann_from_gumbel, population.epsilon_greedy_from_gumbel]
)
def test_where_there_is_nothing_to_choose_the_action_is_none(choose):
    q_values = np.array([[np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf], [0.0, 1.0]]).T
    actions = jax.jit(choose)(np.zeros((2, 4)), q_values, np.zeros(4))
    assert actions.tolist() == [-1, -1, -1, 1]


def test_a_recording_is_of_a_learner_not_of_a_population():
    packed = start(2, setup())
    with pytest.raises(TypeError, match=r"got a Population: give its \.learner"):
        recording.record(packed.setup, packed.network(0), 0, jax.random.key(0))


@dataclasses.dataclass
class Changeable:
    level: int = 0


@dataclasses.dataclass(frozen=True)
class WithoutLevel:
    delay: int = 2


def test_what_an_own_task_must_have_is_told():
    task = make_task("saccade")
    config = AugmentConfig(inputs=task.inputs)
    for params in (Changeable(), WithoutLevel()):
        own = task._replace(params=type(params))
        with pytest.raises(TypeError, match="must be a frozen dataclass with a field level"):
            Setup(own, params, config, task.criterion)
    repeated = dataclasses.replace(task.criterion, test_repeats=5)
    with pytest.raises(ValueError, match=r"criterion.test_repeats must be 1, .* saccade, got 5"):
        Setup(task, task.params(), config, repeated)


def test_a_recording_is_of_the_last_level_and_forgets_an_unfinished_trial():
    params = saccade.Params(delay_steps=16, curriculum=True)
    easy = dataclasses.replace(setup().criterion, windows=(50,) * len(saccade.delays(params)))
    shared = dataclasses.replace(setup(), params=params, criterion=easy)
    learner = start(2, shared).network(0).learner
    left = {name: jnp.ones_like(getattr(learner, name)) for name in ("memory", "observation")}
    fresh, midway = (
        recording.record(shared, one, 0, jax.random.key(0))
        for one in (learner, learner._replace(**left))
    )
    np.testing.assert_array_equal(midway.q_values, fresh.q_values)
    waits = recording.record(shared, fixating(learner), 0, jax.random.key(0))
    assert (waits.phase == 2).sum() == 1 + 16  # the cue, and the longest delay


def test_a_setups_steps_are_of_as_many_parts_as_it_says():
    shared = dataclasses.replace(setup(), substeps=3)
    state = start(2, shared).network(0).learner
    given = jax.random.key(0), shared.config, state, jnp.ones(4), 1.0, False
    ours, _ = shared.step(*given)
    expected, _ = augment_continuous.step(jax.random.clone(given[0]), *given[1:], substeps=3)
    once, _ = augment_continuous.step(jax.random.clone(given[0]), *given[1:], substeps=1)
    chex.assert_trees_all_close(ours, expected, rtol=1e-6)
    assert np.any(ours.tags.memory_q != once.tags.memory_q)


def test_what_fills_a_block_up_reaches_no_network():
    whole, fewer = start(8, setup()), start(8, setup())
    fewer.networks.progress.status[[1, 4]] = criteria.GAVE_UP
    for packed in (whole, fewer):
        packed.advance()
    for number in (0, 2, 7):
        chex.assert_trees_all_equal(alone(fewer, number), alone(whole, number))


def test_every_function_of_a_task_sees_the_networks_own_level():
    """But ``draw``, which sees level 0: its numbers are for trials of any level."""
    task = make_task("saccade")

    def step(key, state, action, params):
        state, seen = task.step(key, state, action, params)
        return state, seen._replace(observation=jnp.full(4, 10.0 + params.level))

    def begin(trial, params):
        state, seen = task.begin(trial, params)
        return state, seen._replace(observation=jnp.full(4, 20.0 + params.level))

    def draw(key, level_0):  # called by position, as the other functions are
        return 0 * task.draw(key, level_0) + level_0.level

    own = task._replace(step=step, begin=begin, draw=draw)
    params = saccade.Params(delay_steps=16, curriculum=True, level=1)
    criterion = dataclasses.replace(task.criterion, windows=(50,) * 3, test_allowed=())
    shared = Setup(own, params, AugmentConfig(inputs=4), criterion)
    packed = Packed(shared, jax.random.key(0), networks=3, steps=1)
    progress = packed.networks.progress
    levels = np.array([0, 1, 2], np.int32)
    packed.networks = packed.networks._replace(progress=progress._replace(level=levels))
    shown = []
    for _ in range(120):
        packed.advance()
        shown.append(packed.networks.timestep.observation[0].copy())
    # Each network acts and, between two trials, begins anew.
    for network, level in enumerate(levels):
        assert {x[network] for x in shown} == {10.0 + level, 20.0 + level}
    assert (packed.networks.trial_state.trial.kind == 0).all()


def _without_done(moment):
    state, seen = moment
    return state, (seen.observation, seen.reward)


TASK = make_task("saccade")


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"condition": lambda t: 0.5}, TypeError, "condition must return one whole number, got fl"),
        ({"condition": lambda t: jnp.zeros(2, int)}, TypeError, r"whole number, got int32\[2\]"),
        (
            {"condition": lambda t: t.kind + 1},
            ValueError,
            "must return numbers from 0 to 3, .*got 4",
        ),
        ({"condition": lambda t: t.kind - 1}, ValueError, "numbers from 0 to 3, .*got -1"),
        (
            {"begin": lambda t, p: _without_done(TASK.begin(t, p))},
            TypeError,
            r"task.begin must return \(TrialState, TimeStep\), got TrialState, tuple",
        ),
        (
            {"step": lambda k, s, a, p: TASK.step(k, s, a, p)[1]},
            TypeError,
            r"task.step must return \(TrialState, TimeStep\), got TimeStep",
        ),
        (
            {"step": lambda k, s, a, p: (s._replace(held=1.0), TASK.step(k, s, a, p)[1])},
            ValueError,
            r"task.step must return what is like the state of task.begin, .*held=float32\[\]",
        ),
        (
            {"begin": lambda t, p: (TASK.begin(t, p)[0], _seen(reward=jnp.zeros(1)))},
            ValueError,
            r"task.begin must return reward \[\], got \[1\]",
        ),
        (
            {"begin": lambda t, p: (TASK.begin(t, p)[0], _seen(observation=jnp.zeros(3)))},
            ValueError,
            r"task.begin must return observation \[4\], got \[3\]",
        ),
        (
            {"test_trial": lambda n, i, p: TASK.test_trial(n, i, p)._replace(delay=1.0)},
            ValueError,
            "task.test_trial must return what is like the trial of task.build",
        ),
    ],
)
def test_what_an_own_tasks_functions_must_return_is_told(change, error, says):
    shared = dataclasses.replace(setup(), task=TASK._replace(**change))
    with pytest.raises(error, match=says) as told:
        start(2, shared)
    assert "\n" not in str(told.value)


def _seen(**changed):
    return TimeStep(jnp.zeros(4), 0.0, False, False)._replace(**changed)


def test_a_trial_of_the_frozen_test_may_be_of_pythons_numbers():
    tasks = [
        TASK._replace(test_trial=lambda n, i, p, as_=as_: saccade.Trial(as_(3), as_(2)))
        for as_ in (int, jnp.int32)
    ]
    packed = [start(2, dataclasses.replace(setup(), task=task)) for task in tasks]
    for each in packed:
        each.advance()
    chex.assert_trees_all_equal(packed[0].networks, packed[1].networks)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32"])
def test_a_condition_is_any_kind_of_whole_number(dtype):
    task = TASK._replace(condition=lambda trial: TASK.condition(trial).astype(dtype))
    contract.check(task, task.params())


@dataclasses.dataclass(frozen=True)
class WithList:
    delays: list
    level: int = 0


def test_parameters_of_an_own_task_are_a_class_and_have_a_hash():
    config = AugmentConfig(inputs=4)
    with pytest.raises(TypeError, match=r"task.params must be the class of its parameters"):
        Setup(TASK._replace(params=WithList([1])), WithList([1]), config, TASK.criterion)
    with pytest.raises(TypeError, match="params must have a hash, as tuples have"):
        Setup(TASK._replace(params=WithList), WithList([1]), config, TASK.criterion)


def test_a_network_that_has_diverged_gives_up_at_once():
    task = make_task("saccade")
    setup = Setup(task, task.params(), AugmentConfig(inputs=4), task.criterion)
    rates = np.array([0.15, 1e30, 0.15])
    packed = Packed(setup, jax.random.key(0), rates, steps=400)
    packed.advance()
    progress = packed.networks.progress
    assert packed.learning.tolist() == [0, 2] and progress.status[1] == criteria.GAVE_UP
    assert 0 < progress.trials[1] < 0.5 * progress.trials[0]
    before = jax.tree.map(lambda x: x[..., 1].copy(), packed.networks.progress)
    packed.advance()
    jax.tree.map(np.testing.assert_array_equal, packed.network(1).progress, before)
    assert packed.trials_to_convergence()[1] is None
    assert np.isnan(packed.networks.learner.weights.memory_q[..., 1]).any()


def test_a_state_from_before_trials_were_counted_by_level_is_restored():
    task = make_task("saccade")
    params = task.params(curriculum=True)
    levels = dataclasses.replace(task.criterion, windows=(50, 50))
    setup = Setup(task, params, AugmentConfig(inputs=4), levels)
    packed, again = (Packed(setup, jax.random.key(0), networks=2, steps=4) for _ in range(2))
    packed.advance()
    state = packed.state()
    last = f"leaf{len(jax.tree.leaves(packed.networks)) - 1}"
    assert state[last].shape == (2, 2)
    del state[last]
    again.restore(state)
    assert last not in state
    for networks in (packed, again):
        networks.advance()
    jax.tree.map(np.testing.assert_array_equal, again.networks, packed.networks)
    # One that had passed the first level, it is not known when.
    moved = packed.networks._replace(
        progress=packed.networks.progress._replace(level=np.array([1, 0], np.int32))
    )
    early = {f"leaf{n}": leaf for n, leaf in enumerate(jax.tree.leaves(moved)[:-1])}
    again.restore(state | early)
    assert again.networks.progress.passed.tolist() == [[-1, 0], [0, 0]]
    del state["leaf0"]
    with pytest.raises(ValueError, match="arrays of a population's state"):
        again.restore(state)


def test_a_network_that_is_not_there_and_a_key_that_is_none_are_told():
    shared = setup()
    packed = start(2, shared)
    with pytest.raises(ValueError, match=r"number must be in \[-2, 1\], got 2"):
        packed.network(2)
    for key in (0, jax.random.split(jax.random.key(0))):
        with pytest.raises(TypeError, match="key must be a random key"):
            Packed(shared, key, networks=2)
        with pytest.raises(TypeError, match="key must be a random key"):
            recording.record(shared, packed.network(0).learner, 0, key)
    with pytest.raises(ValueError, match="learner must be one network's state, got that of 2"):
        recording.record(shared, packed.networks.learner, 0, jax.random.key(0))
    with pytest.raises(TypeError, match="learner must be an AugmentState"):
        recording.record(shared, shared, 0, jax.random.key(0))
