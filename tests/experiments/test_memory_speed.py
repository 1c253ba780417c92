"""What the population is timed against learns by the printed equations; the command that times."""

import json

import numpy as np
import pytest

from experiments.common.cli import run
from experiments.memory_speed import __main__ as memory_speed
from experiments.memory_speed import numpy_baseline as memory_numpy
from tests.reference import working_memory as scripts
from tests.reference.augment import Augment

SHAPES = ((5, 3), (8, 4), (4, 3), (4, 3))


def weights(networks, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.uniform(-0.25, 0.25, (*shape, networks)).astype(dtype) for shape in SHAPES]


def first(x):
    return np.moveaxis(np.asarray(x), -1, 0)


def test_the_numpy_learner_agrees_with_the_printed_equations():
    networks, steps = 3, 600
    drawn = weights(networks, np.float64)
    ours, reference = memory_numpy.Augment(drawn), Augment(*map(first, drawn))
    rng = np.random.default_rng(1)
    for _ in range(steps):
        observation = rng.integers(0, 2, (4, networks)) * rng.random((4, networks))
        reward = rng.choice([0.0, 0.2, 1.5], networks, p=[0.8, 0.1, 0.1])
        ended = rng.random(networks) < 0.1
        action = rng.integers(0, 3, networks)
        seen = []

        def choose(q_values, seen=seen, action=action):
            seen.append(q_values.copy())
            return action

        ours.step(observation, reward, ended, choose)
        np.testing.assert_allclose(first(seen[0]), reference.forward(first(observation)), atol=1e-9)
        reference.learn(action, reward, ended)
        pairs = [
            *zip(ours.weights, reference.weights, strict=True),
            *zip(ours.tags, reference.tags, strict=True),
            (ours.trace, reference.trace[..., 0]),
            (ours.memory, reference.S),
            (ours.q_previous, reference.q_previous),
        ]
        for mine, theirs in pairs:
            np.testing.assert_allclose(first(mine), theirs, atol=1e-9)
    assert np.abs(reference.W_M).max() > 0.3, "nothing was learned, so nothing was tested"


def test_the_numpy_world_is_the_literal_script():
    networks = 40
    rng = np.random.default_rng(2)
    world = memory_numpy.Saccade(networks, lambda n: rng.integers(0, 4, n))
    playing = [scripts.saccade(kind)[1] for kind in world.kind]
    told = [next(script) for script in playing]
    ends, rewards = 0, set()
    steady = np.linspace(0.5, 0.99, networks)
    for _ in range(200):
        observation, reward, done = (np.array(x) for x in zip(*told, strict=True))
        np.testing.assert_array_equal(first(world.observe()), observation)
        np.testing.assert_allclose(world.reward, reward, rtol=1e-6)
        np.testing.assert_array_equal(world.ended, done)
        ends += done.sum()
        rewards |= set(reward.tolist())
        waiting = world.phase != memory_numpy.GO
        action = np.where(
            waiting & (rng.random(networks) < steady), 0, rng.integers(0, 3, networks)
        )
        world.answer(action)
        for n in range(networks):
            if done[n]:
                playing[n] = scripts.saccade(int(world.kind[n]))[1]
                told[n] = next(playing[n])
            else:
                told[n] = playing[n].send(int(action[n]))
    assert ends > 300 and rewards == {0, 0.2, 1.5}


def test_the_numpy_population_explores_as_often_as_it_should_and_stays_in_float32():
    population = memory_numpy.Population(weights(50, np.float32), seed=0)
    q_values = np.repeat(np.array([[2.0], [1.0], [0.0]], np.float32), 200_000, axis=1)
    away = (population._choose(q_values) != 0).mean()
    softmax = np.exp([2.0, 1.0, 0.0]) / np.exp([2.0, 1.0, 0.0]).sum()
    assert away == pytest.approx(0.025 * (1 - softmax[0]), rel=0.1)
    population.advance(40)
    assert population.trials > 50
    learner = population._learner
    for array in (*learner.weights, *learner.tags, learner.trace, learner.memory):
        assert array.dtype == np.float32


def test_writes_times_and_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(memory_speed, "TRAINED", 4)
    monkeypatch.setattr(
        memory_speed, "QUICK", {"networks": (1, 4), "repeats": 2, "first_chunks": 1}
    )
    monkeypatch.setattr(memory_speed, "NETWORK_STEPS", 1)
    memory_speed.main(["--quick", "--networks", "4", "--out", str(tmp_path)])
    content = json.loads((tmp_path / "memory_speed.json").read_text())
    assert {"device", "versions", "commit", "command"} <= set(content)
    [row] = content["rows"]
    assert row["networks"] == 4 and row["qagrel_jax_over_numpy"] > 0
    for name in ("qagrel_jax", "numpy"):
        assert len(row[name]["pieces"]) == 2 and row[name]["trials_per_second"] > 0
        assert all(piece["trials"] > 0 for piece in row[name]["pieces"])
    assert (tmp_path / "memory_speed.png").read_bytes().startswith(b"\x89PNG")
    assert "4 networks" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        run(memory_speed.main, ["--quick", "--out", str(tmp_path)])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_interruption_keeps_the_repeats_that_were_finished(tmp_path, capsys, monkeypatch):
    timed, calls = memory_speed._timed, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) > 5:  # the first chunks, a repeat, and half of another
            raise KeyboardInterrupt
        return timed(*arguments)

    monkeypatch.setattr(memory_speed, "_timed", interrupted)
    monkeypatch.setattr(memory_speed, "TRAINED", 4)
    monkeypatch.setattr(memory_speed, "NETWORK_STEPS", 1)
    with pytest.raises(SystemExit):
        run(memory_speed.main, ["--quick", "--networks", "4", "--out", str(tmp_path)])
    path = tmp_path / "memory_speed.json"
    assert capsys.readouterr().err.splitlines()[-1] == f"interrupted; what was done is in {path}"
    [row] = json.loads(path.read_text())["rows"]
    assert len(row["qagrel_jax"]["pieces"]) == len(row["numpy"]["pieces"]) == 1
    assert row["qagrel_jax_over_numpy"] > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--networks", "0"], "must be in [1, 1000000], got 0"),
        (["--networks", "10,10"], "the same value twice"),
        (["--repeats", "few"], "'few' is not a whole number"),
        (["--nosuch"], "--nosuch"),
    ],
)
def test_bad_option_is_one_line(arguments, says, capsys):
    with pytest.raises(SystemExit) as stop:
        run(memory_speed.main, arguments)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert says in message and message.count("\n") == 1
