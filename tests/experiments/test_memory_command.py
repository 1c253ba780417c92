"""``python -m experiments.working_memory``: what it writes, resuming, a line for every mistake."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.serialization import msgpack_restore

from experiments.common.cli import UserError
from experiments.working_memory import __main__ as working_memory
from experiments.working_memory import config as memory_config
from experiments.working_memory import run as memory_run
from experiments.working_memory import summary as memory_summary
from experiments.working_memory import trained
from experiments.working_memory.config import MemoryConfig
from qagrel_jax.population import record
from qagrel_jax.population.packing import Packed
from qagrel_jax.training import checkpoints

ROOT = Path(__file__).resolve().parents[2]


def refused(capsys, *arguments):
    """The one line on stderr of a command that ends with code 2."""
    with pytest.raises(SystemExit) as stop:
        working_memory.cli.run(working_memory.main, list(map(str, arguments)))
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def nothing_left_to_learn(monkeypatch):
    """From here on a network that learns fails the test."""
    monkeypatch.setattr(Packed, "advance", lambda _: pytest.fail("what was done is done again"))


COMPARED = "saccade --feedback tied,separate --networks 6 --max-trials 150 --set delay_steps=1"


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A small run that compares tied and independent feedback, and its summary."""
    folder = tmp_path_factory.mktemp("memory") / "run"
    working_memory.main([*COMPARED.split(), "--out", str(folder)])
    return folder, json.loads((folder / "summary.json").read_text())


def test_writes_summary_and_pictures(compared):
    folder, summary = compared
    assert summary["task"] == "saccade" and summary["networks"] == 12
    assert {"seconds", "device", "versions", "commit", "command"} <= set(summary)
    assert summary["config"]["task_parameters"] == {"delay_steps": 1}
    assert summary["trials"] == [None] * 12 and summary["converged_fraction"] == 0
    assert summary["median_trials"] is None
    cells = [(cell["feedback"], cell["networks"]) for cell in summary["grid"]]
    assert cells == [("tied", 6), ("kolen_pollack", 6)]
    assert summary["feedback_mann_whitney"][0]["p"] == 1
    for name in ("converged.png", "activity.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def _state(folder):
    content, _ = checkpoints.read(folder / memory_run.CHECKPOINT)
    return {**msgpack_restore(content), "seconds": None}


def test_an_interrupted_run_ends_as_if_it_had_not_been(compared, tmp_path, monkeypatch):
    folder, summary = compared
    other = tmp_path / "run"
    save, advance, turns = memory_run._save, Packed.advance, []

    def interrupt(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    def advance_and_tell(packed):
        turns.append(packed.turn)
        advance(packed)

    monkeypatch.setattr(Packed, "advance", advance_and_tell)
    monkeypatch.setattr(memory_run, "_save", interrupt)
    with pytest.raises(KeyboardInterrupt, match=f"--resume --out {other}"):
        working_memory.main([*COMPARED.split(), "--checkpoint-seconds", "0", "--out", str(other)])
    assert turns == [0]
    monkeypatch.setattr(memory_run, "_save", save)
    working_memory.main(["--resume", "--out", str(other)])
    assert turns == list(range(int(_state(folder)["turn"]))) and len(turns) > 1
    jax.tree.map(np.testing.assert_array_equal, _state(other), _state(folder))
    again = json.loads((other / "summary.json").read_text())
    for name in ("trials", "training_trials_of_all_networks", "frozen_tests_taken"):
        assert again[name] == summary[name]


def test_a_finished_run_is_resumed_as_it_was_and_not_as_another(
    compared, tmp_path, monkeypatch, capsys
):
    folder, summary = shutil.copytree(compared[0], tmp_path / "run"), compared[1]
    nothing_left_to_learn(monkeypatch)
    working_memory.main(["--resume", "--out", str(folder)])
    assert json.loads((folder / "summary.json").read_text())["trials"] == summary["trials"]
    assert "add --resume" in refused(capsys, "saccade", "--out", folder)
    message = refused(capsys, "--resume", "--out", folder, "--seed", 5)
    assert "seed 0 there, 5 here" in message
    checkpoint = folder / memory_run.CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    assert "damaged" in refused(capsys, "--resume", "--out", folder)


def test_a_notebook_reads_the_networks(compared, tmp_path):
    folder, summary = compared
    before = {p: p.read_bytes() for p in folder.iterdir()}
    setup, networks = trained.load(str(folder))
    assert {p: p.read_bytes() for p in folder.iterdir()} == before
    assert len(networks) == 12 and networks.trials_to_convergence() == summary["trials"]
    state, content = networks.state(), _state(folder)
    assert content.keys() - state.keys() == {"seconds"}
    for name in content.keys() & state.keys():
        np.testing.assert_array_equal(state[name], content[name])
    assert networks.networks.settings.tied.tolist() == [True] * 6 + [False] * 6
    trial = record(setup, networks.network(7).learner, 0, jax.random.key(0))
    assert trial.memory.shape == (len(trial.phase), setup.config.memory)


def test_a_notebook_is_told_what_is_not_there(compared, tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        trained.load(tmp_path)
    folder = shutil.copytree(compared[0], tmp_path / "run")
    (folder / memory_run.CHECKPOINT).unlink()
    with pytest.raises(UserError, match=r"has no checkpoint\.msgpack, which a run writes"):
        trained.load(folder)
    (folder / memory_run.CHECKPOINT).write_bytes(b"qagrel")
    with pytest.raises(UserError, match="damaged"):
        trained.load(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is no working-memory run"):
        trained.load(folder)


def test_earlier_checkpoints_are_read_or_named(tmp_path, monkeypatch, capsys):
    folder, options = tmp_path / "run", "saccade --networks 2 --max-trials 5"
    working_memory.main([*options.split(), "--out", str(folder)])
    nothing_left_to_learn(monkeypatch)
    content, _ = checkpoints.read(folder / memory_run.CHECKPOINT)
    state = {**msgpack_restore(content), "seconds": np.float64(1000)}
    (folder / memory_run.CHECKPOINT).unlink()
    np.savez(folder / memory_run.OLD_CHECKPOINT, **state)
    working_memory.main(["--resume", "--out", str(folder)])
    assert json.loads((folder / "summary.json").read_text())["seconds"] > 1000

    def cannot(self, state):
        raise ValueError("not so")

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(memory_run.Packed, "restore", cannot)
        said = refused(capsys, "--resume", "--out", folder)
    assert f"{memory_run.CHECKPOINT} is damaged (not so): move it away" in said
    (folder / memory_run.CHECKPOINT).unlink()
    state.popitem()
    np.savez(folder / memory_run.OLD_CHECKPOINT, **state)
    capsys.readouterr()
    assert "earlier version" in refused(capsys, "--resume", "--out", folder)


@pytest.mark.slow
def test_long_delays_are_drawn_and_a_later_sitting_does_not_sign(tmp_path):
    folder = tmp_path / "run"
    long = "--networks 1 --max-trials 1 --set fixation_timeout=90 --set response_timeout=90"
    working_memory.main(["saccade", "--resume", *long.split(), "--out", str(folder)])  # begins
    assert (folder / "activity.png").read_bytes().startswith(b"\x89PNG")
    first = json.loads((folder / "environments.jsonl").read_text()) | {"commit": "first"}
    (folder / "environments.jsonl").write_text(json.dumps(first))
    working_memory.main(["--resume", "--out", str(folder)])
    assert json.loads((folder / "summary.json").read_text())["commit"] == "first"


def test_the_feedbacks_are_compared_by_rank_with_never_the_last():
    cells = [{"learning_rate": b, "tag_decay": 0.2} for b in (0.1, 0.3)] * 2
    trials = [1, 2, 3, 4, 5, 6, 7, None, 8, 9, 10, None, 5, 6, 7, None]
    first, second = memory_summary.compare_feedbacks({"grid": cells, "trials": trials})
    # All eight apart: 2 of the C(8, 4) = 70 orders are as extreme.
    assert (first["learning_rate"], first["p"]) == (0.1, pytest.approx(2 / 70))
    assert (second["learning_rate"], second["p"]) == (0.3, pytest.approx(1))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("lost", "drawn"), [((0, 1, 3), 2), ((0, 1, 2, 3), 0), ((), 0)])
@pytest.mark.parametrize("rule", ["augment", "recollect"])
def test_diverged_networks_are_counted_and_not_drawn(
    rule, lost, drawn, value, tmp_path, monkeypatch, capsys
):
    config = MemoryConfig("saccade", 2, tag_decays=(0.2, 0.5), rule=rule)
    setup = memory_run.make_setup(config)
    packed = memory_run.start(config, setup)
    learner = packed.networks.learner
    first, *others = (np.array(leaf) for leaf in learner.weights)
    first[..., list(lost)] = value
    weights = type(learner.weights)(first, *others)
    packed.networks = packed.networks._replace(learner=learner._replace(weights=weights))
    content = memory_summary.summarize(config, setup, packed, 1.0, {})
    assert content["diverged_networks"] == len(lost)
    by_hand = [sum(n // 2 == cell for n in lost) for cell in (0, 1)]
    assert [cell["diverged_networks"] for cell in content["grid"]] == by_hand
    memory_summary.show(content, tmp_path)
    assert (f"{len(lost)} diverged" in capsys.readouterr().out) == bool(lost)
    titles = []
    monkeypatch.setattr(memory_run, "_recorded", lambda *_: None)
    monkeypatch.setattr(memory_run.activity, "draw", lambda _, title, *__: titles.append(title))
    memory_run._draw_activity(tmp_path / "p.png", config, setup, packed)
    (title,) = titles
    assert f"network {drawn}, " in title
    assert title.splitlines()[0].endswith(
        "diverged, weights not finite" if drawn in lost else "not converged"
    )


def test_statistics_by_hand():
    assert memory_summary.describe([30, None, 10, 20]) == {
        "converged_fraction": 0.75,
        "median_trials": 20,
        "mean_trials": 20.0,
        "quartiles_trials": [15.0, 25.0],
    }


def test_settings_are_every_combination():
    config = MemoryConfig("saccade", 1, feedbacks=("tied", "separate"), tag_decays=(0.0, 0.5))
    assert config.settings == [
        ("tied", 0.15, 0.0),
        ("tied", 0.15, 0.5),
        ("kolen_pollack", 0.15, 0.0),
        ("kolen_pollack", 0.15, 0.5),
    ]


def test_lines_of_a_grid_look_different(tmp_path, monkeypatch):
    """Eight settings of one learning rate, more than there are styles."""
    from matplotlib.axes import Axes

    from experiments.working_memory import plots as memory_plots

    looks = []
    step = Axes.step

    def noted(axes, *arguments, color, linestyle, **options):
        looks.append((color, linestyle))
        return step(axes, *arguments, color=color, linestyle=linestyle, **options)

    monkeypatch.setattr(Axes, "step", noted)
    cells = [
        {"feedback": feedback, "learning_rate": 0.1, "tag_decay": decay}
        for feedback in ("tied", "kolen_pollack")
        for decay in (0.0, 0.2, 0.4, 0.8)
    ]
    summary = {"task": "saccade", "config": {"networks": 1}, "grid": cells, "trials": [5] * 8}
    memory_plots.converged(tmp_path / "converged.png", summary)
    assert len(looks) == 8 and len(set(looks)) == 8


def test_pictures_of_convergence_by_hand(tmp_path, monkeypatch):
    """Fractions of each setting's two networks; a row of the grid is a rate, a column a decay."""
    from experiments import plots
    from experiments.working_memory import plots as memory_plots

    drawn = []
    monkeypatch.setattr(plots, "save", lambda drawing, path: drawn.append(drawing))
    cells = [
        {"feedback": feedback, "learning_rate": 0.1, "tag_decay": 0.2}
        for feedback in ("tied", "kolen_pollack")
    ]
    summary = {"task": "saccade", "config": {"networks": 2}, "grid": cells}
    memory_plots.converged(tmp_path / "converged.png", summary | {"trials": [20, None, 30, 10]})
    (axes,) = drawn[0].axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines == {
        "tied feedback": [[0, 0], [20, 0.5], [31.5, 0.5]],
        "Kolen–Pollack feedback": [[0, 0], [10, 0.5], [30, 1], [31.5, 1]],
    }
    config = {"feedbacks": ["tied"], "learning_rates": [0.1, 0.2], "tag_decays": [0.0, 0.5]}
    found = [(0.25, 10), (0.5, 20), (0.75, 30), (1.0, None)]
    cells = [{"converged_fraction": share, "median_trials": trials} for share, trials in found]
    summary = {"task": "saccade", "config": config | {"networks": 3}, "grid": cells}
    memory_plots.grid(tmp_path / "grid.png", summary)
    fraction, median = drawn[1].axes[:2]
    assert [text.get_text() for text in fraction.get_yticklabels()] == ["0.1", "0.2"]
    assert fraction.images[0].get_array().tolist() == [[0.25, 0.5], [0.75, 1]]
    assert [text.get_text() for text in median.texts] == ["10", "20", "30", "–"]


def test_pictures_name_a_rule_that_is_not_augment(tmp_path, monkeypatch):
    from experiments import plots
    from experiments.working_memory import plots as memory_plots

    drawn = []
    monkeypatch.setattr(plots, "save", lambda drawing, path: drawn.append(drawing))
    one = {"feedback": "tied", "learning_rate": 0.1, "tag_decay": 0.2}
    cells = [one, one | {"feedback": "kolen_pollack"}]
    cells = [cell | {"converged_fraction": 1.0, "median_trials": 5} for cell in cells]
    lists = {"feedbacks": ["tied", "kolen_pollack"], "learning_rates": [0.1], "tag_decays": [0.2]}
    found = {"trials": [5, 5], "converged_fraction": 1.0, "median_trials": 5}
    for rule in ("augment", "recollect", None):  # earlier summaries tell none
        config = lists | {"networks": 1} | ({"rule": rule} if rule else {})
        summary = {"task": "saccade", "networks": 2, "config": config} | found
        memory_plots.converged(tmp_path / "p.png", summary)
        memory_plots.converged(tmp_path / "p.png", summary | {"grid": cells})
        memory_plots.grid(tmp_path / "p.png", summary | {"grid": cells})
        alone, of_grid, heat = drawn[-3:]
        titles = [alone.axes[0].get_title(), of_grid.axes[0].get_title(), heat.get_suptitle()]
        named = "saccade, RECOLLECT" if rule == "recollect" else "saccade"
        # AuGMEnT's own are β = 0.15 and λ = 0.2, RECOLLECT's β is 0.1.
        own = "tag decays 0.2" if rule == "recollect" else "learning rates 0.1"
        assert titles[0].splitlines() == [f"{named}: 100.00 % converged", own]
        assert titles[1] == named
        assert titles[2].startswith(f"{named}, tied and Kolen–Pollack feedback")


def test_the_grid_picture_bears_settings_nobody_learned(tmp_path):
    from experiments.working_memory import plots as memory_plots

    config = {"feedbacks": ["tied"], "learning_rates": [0.1, 0.2], "tag_decays": [0.0, 0.5]}
    cells = [{"converged_fraction": 0.0, "median_trials": None}] * 4
    summary = {"task": "saccade", "config": config | {"networks": 3}, "grid": cells}
    memory_plots.grid(tmp_path / "grid.png", summary)
    assert (tmp_path / "grid.png").stat().st_size > 1000


def config_of(*arguments):
    """The configuration that a command's arguments make."""
    return working_memory._what_and_where(working_memory._parser().parse_args(arguments))[0]


def test_every_rule_and_task_has_its_published_settings():
    """van den Berg, Roelfsema & Bohte (2024) and Martinolli, Gerstner & Gilra (2018)."""
    config = config_of("saccade", "--rule", "recollect", "--set", "delay_steps=4", "--curriculum")
    assert (config.learning_rates, config.tag_decays, config.memory) == ((0.1,), (0.4,), 7)
    assert (config.policy, config.exploration, config.threshold) == ("epsilon_greedy", 0.025, 0.0)
    assert (config.networks, config.slope, config.end_input) == (100, "published", False)
    assert config.task_parameters == {"blank_steps": 0, "curriculum": True, "delay_steps": 4}
    assert config_of("saccade").networks == 1000
    hybrid = config_of("twelve_ax", "--leak", "0.7,1")
    assert (hybrid.leak, hybrid.regular, hybrid.memory) == ((0.7, 1.0), 10, 20)
    assert (hybrid.tag_decays, hybrid.learning_rates) == ((0.15,), (0.15,))
    assert (hybrid.weight_range, hybrid.threshold, hybrid.cooling) == (0.5, 0.0, 2000)
    assert hybrid.feedbacks == ("kolen_pollack",)
    assert config_of("twelve_ax", "--leak", "0.7").leak == 0.7
    assert config_of("twelve_ax", "--policy", "epsilon_greedy").cooling == 0
    assert not config_of("twelve_ax").bias and config_of("twelve_ax", "--bias").bias
    assert config_of("saccade").bias and not config_of("saccade", "--no-bias").bias
    given = config_of("saccade", "--rule", "recollect", "--learning-rate", "0.2", "--memory", "9")
    assert (given.learning_rates, given.memory) == ((0.2,), 9)


def test_recollect_is_run_drawn_and_resumed(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    arguments = (
        "saccade --rule recollect --networks 2 --max-trials 30 --end-input --slope corrected "
        "--feedback separate --curriculum --set delay_steps=4"
    )
    working_memory.main([*arguments.split(), "--out", str(folder)])
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["trials"] == [None, None] and summary["config"]["rule"] == "recollect"
    assert (folder / "activity.png").read_bytes().startswith(b"\x89PNG")
    nothing_left_to_learn(monkeypatch)
    for given in ([], arguments.split()):  # nothing again, or the same again
        working_memory.main([*given, "--resume", "--out", str(folder)])
        assert json.loads((folder / "summary.json").read_text())["trials"] == summary["trials"]
    capsys.readouterr()
    message = refused(capsys, "--set", "delay_steps=5", "--resume", "--out", folder)
    assert "'delay_steps': 4} there" in message and "'delay_steps': 5} here" in message


@pytest.mark.slow
def test_hybrid_augment_learns_12ax_from_the_command_line(tmp_path):
    folder = tmp_path / "run"
    arguments = "twelve_ax --leak 0.7,1 --networks 2 --max-trials 40 --memory 4"
    working_memory.main([*arguments.split(), "--out", str(folder)])
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["config"]["leak"] == [0.7, 1.0]
    assert (folder / "activity.png").read_bytes().startswith(b"\x89PNG")
    assert memory_config.load(folder).leak == (0.7, 1.0)


def test_the_names_are_the_librarys():
    from qagrel_jax import rules, tasks
    from qagrel_jax.rules import synapses

    assert tuple(tasks.TASKS) == memory_config.TASKS
    assert tuple(rules.memory.RULES) == memory_config.RULES
    assert set(synapses.POLICIES) == set(memory_config.POLICIES)
    assert rules.recollect.SLOPES == memory_config.SLOPES


BAD = {
    "task": (["stroop"], "unknown task 'stroop'; valid: saccade, match_to_category"),
    "no task": ([], "which task? one of saccade"),
    "networks": (["saccade", "--networks", "0"], "must be in [1, 1000000], got 0"),
    "not a number": (["saccade", "--max-trials", "many"], "'many' is not a whole number"),
    "fixation reward": (["saccade", "--fixation-reward", "-1"], "must be in [0"),
    "feedback": (["saccade", "--feedback", "tied,magic"], "'magic'; valid: tied, kolen_pollack"),
    "twice": (["saccade", "--feedback", "tied,tied"], "the same value twice"),
    "learning rate": (["saccade", "--learning-rate", "0.1,x"], "'x' is not a number"),
    "tag decay": (["saccade", "--tag-decay", "1.5"], "must be in [0, 1], got 1.5"),
    "exploration": (["saccade", "--exploration", "2"], "must be in [0, 1], got 2"),
    "substeps": (["saccade", "--substeps", "0"], "must be in [1, 1000], got 0"),
    "assignment": (["saccade", "--set", "delay_steps"], "is not NAME=VALUE"),
    "parameter": (["saccade", "--set", "delay=3"], "saccade has no parameter 'delay'"),
    "its kind": (["saccade", "--set", "delay_steps=long"], "delay_steps must be a whole number, "),
    "text": (["match_to_sample", "--set", "letters=123"], "letters must be text, got 123"),
    "too many sets": (["match_to_sample", "--set", "sets=9"], "sets must be in [1, 8], got 9"),
    "its range": (["saccade", "--set", "delay_steps=-2"], "delay_steps must be at least 0"),
    "rule": (["saccade", "--rule", "lstm"], "unknown rule 'lstm'; valid: augment, recollect"),
    "its option": (
        ["saccade", "--rule", "recollect", "--leak", "0.5"],
        "--leak is not an option of --rule recollect",
    ),
    "no slope": (["saccade", "--slope", "corrected"], "--slope is not an option of --rule augment"),
    "leak": (["saccade", "--leak", "0.5,1.5"], "must be in [0, 1], got 1.5"),
    "shares": (["saccade", "--leak", "0.5,0.7,1"], "multiple of the 3 leaks, got 4"),
    "curriculum": (["vibrotactile", "--curriculum"], "vibrotactile has no parameter 'curriculum'"),
    "resume": (["--resume"], "--resume needs --out"),
    "option": (["saccade", "--nosuch"], "--nosuch"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, says = BAD[name]
    assert says in refused(capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert "holds files that are no run" in refused(capsys, "saccade", "--out", tmp_path)
    assert "is not a folder" in refused(capsys, "saccade", "--out", tmp_path / "thesis.txt")
    within = tmp_path / "thesis.txt" / "run"
    assert "cannot write" in refused(capsys, "saccade", "--out", within)
    (tmp_path / "config.json").write_text("{")
    assert "cannot read" in refused(capsys, "--resume", "--out", tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert "no working-memory run" in refused(capsys, "--resume", "--out", tmp_path)
    with pytest.raises(UserError, match="no working-memory run"):
        memory_config.load(tmp_path)
