"""``python -m experiments.controls``: settings, statistics by hand, one small run, bad input."""

import json

import jax
import numpy as np
import pytest

from experiments import config as configs
from experiments import plots as drawings
from experiments.common import cli
from experiments.common.cli import UserError
from experiments.common.names import CONTROL_RULES, RULES
from experiments.controls import __main__ as controls
from experiments.controls import catalogue, unfinished
from experiments.controls import plots as controls_plots
from experiments.controls import run as controls_run
from experiments.controls import settings as controls_settings
from experiments.controls import summary as controls_summary
from experiments.controls.settings import Control, Setting
from experiments.reports import controls as report
from qagrel_jax import data
from qagrel_jax.training import fitting

SMALL = configs.replace(
    configs.load("digits"),
    {"hidden": (8,), "epochs": 2, "patience": 2, "seeds": 2, "batch_size": 128},
)


@pytest.mark.parametrize("name", catalogue.names())
def test_settings_have_names_of_their_own(name):
    control = catalogue.load(name, seeds=7, epochs=3)
    labels = [setting.label for setting in control.settings]
    assert len(set(labels)) == len(labels)
    for setting in control.settings:
        assert (setting.config.seeds, setting.config.epochs) == (7, 3)
        assert setting.config.protocol == "clean"
        assert setting.rule in RULES + CONTROL_RULES


def _line(label, rule, curves, family=None, classes=10, batch_size=16, diverged=None):
    return {
        "label": label,
        "rule": rule,
        "family": family or label,
        "classes": classes,
        "x": None,
        "config": {
            "batch_size": batch_size,
            "dataset": "digits",
            "architecture": "dense",
            "epochs": 3,
        },
        "seeds": [0, 1],
        "diverged": diverged,
        "validation_accuracy": curves,
        "best_validation_accuracy": [max(c) for c in zip(*curves, strict=True)],
        "test_accuracy": [0.5, 0.7],
        "commit": "0123456789",
        "device": "cpu",
    }


LINES = [
    _line("slow backprop", "backprop", [[0.5, 0.5], [0.8, 0.8], [0.9, 0.9]], "backprop"),
    _line("backprop", "backprop", [[0.5, 0.5], [1.0, 0.98], [1.0, 1.0]], "backprop"),
    _line("q_agrel", "q_agrel", [[0.1, 0.1], [0.2, 0.2], [0.99, 1.0]]),
    _line("one seed fails", "q_agrel", [[0.1, 0.1], [0.2, 0.2], [0.99, 0.5]]),
    _line("breaks", "q_agrel", [], diverged="seed 1 diverged"),
    _line("fewer classes", "q_agrel", [[0.6, 0.6], [0.7, 0.7], [0.7, 0.7]], classes=2),
]


def test_statistics_by_hand():
    content = controls_summary.summarize("x", "?", LINES, [*(r["label"] for r in LINES), "later"])
    results = {result["label"]: result for result in content["results"]}
    assert content["missing"] == ["later"]
    assert [r["label"] for r in content["results"] if r["chosen"]] == [
        "backprop",
        "q_agrel",
        "one seed fails",
        "fewer classes",
    ]
    assert results["q_agrel"]["criterion_accuracy"] == 0.98  # of backprop's best setting, 1.0
    assert results["backprop"]["epochs_to_criterion"] == [2, 2]
    assert results["slow backprop"]["epochs_to_criterion"] == [None, None]
    assert results["q_agrel"]["epochs_to_criterion"] == [3, 3]
    assert results["q_agrel"]["slowdown"] == 1.5
    assert results["one seed fails"]["epochs_to_criterion"] == [3, None]
    assert results["one seed fails"]["slowdown"] is None
    assert results["fewer classes"]["criterion_accuracy"] == 0.98 * 0.7  # no backprop to compare
    assert results["fewer classes"]["slowdown"] is None
    assert controls_summary.cells(results["breaks"]) == ("breaks", "diverged", "–", "–", "–")
    assert controls_summary.cells(results["one seed fails"])[1:] == (
        "74.50 (34.65)",
        "60.00 (14.14)",
        "3.0 (1 of 2 seeds)",
        "–",
    )


def test_report(tmp_path):
    assert report.section(tmp_path).count("*Not run.*") == len(catalogue.names())
    folder = tmp_path / "controls" / "reward"
    folder.mkdir(parents=True)
    content = controls_summary.summarize("reward", "Why?", LINES, ["later"])
    (folder / "summary.json").write_text(json.dumps(content))
    (folder / "picture.png").touch()
    text = report.section(tmp_path)
    assert "Why?" in text and "Not run: later." in text
    assert "| **backprop** | 100.00 (0.00) | 60.00 (14.14) | 2.0 | 1.00 |" in text
    assert "| Q-AGREL | 99.50 (0.71) | 60.00 (14.14) | 3.0 | 1.50 |" in text
    assert "(reward/picture.png)" in text
    assert "seeds 0–1; cpu; commit `0123456`" in text
    # Other seeds and epochs than the control's own are part of its command.
    assert "`python -m experiments.controls reward --seeds 2 --epochs 3`" in text
    own = catalogue.load("reward", None, None).settings[0].config
    line = {"seeds": list(range(own.seeds)), "config": {"epochs": own.epochs}}
    assert report._options("reward", line) == ""


def test_a_setting_that_diverged_has_no_angles_in_the_report():
    kinds = ("update_angle_degrees", "feedback_angle_degrees")
    done = {"label": "b", "last_angles": {kind: {"Dense_0": 12.3} for kind in kinds}}
    text = report._angles([{"label": "a", "last_angles": {}}, done])
    assert text.count("| b | 12° |") == 2 and "| a |" not in text


def test_part_of_a_data_set():
    digits = data.load("digits")
    part = controls_run.part_of(digits, classes=3, train_images=50)
    assert part.train_images.shape == (50, 8, 8, 1)
    assert part.num_classes == 3
    assert set(part.train_labels.tolist()) == set(part.test_labels.tolist()) == {0, 1, 2}
    assert controls_run.part_of(digits, 0, 0) is digits


@pytest.fixture
def small(monkeypatch, folded_keys):
    """Two small settings in place of the controls."""
    reciprocal = configs.replace(SMALL, {"feedback": "kolen_pollack"})

    def load(given):
        settings = (
            Setting("tied", "q_agrel", configs.replace(SMALL, given)),
            Setting("reciprocal", "q_agrel", configs.replace(reciprocal, given)),
        )
        return Control("?", settings, measure_angles=True)

    monkeypatch.setitem(catalogue._CONTROLS, "small", load)


def test_a_run_and_its_resumption(small, tmp_path, monkeypatch, capsys):
    command = ["small", "--out", str(tmp_path)]
    controls.main(command)
    folder = tmp_path / "small"
    lines = [json.loads(line) for line in (folder / "settings.jsonl").read_text().splitlines()]
    assert [line["label"] for line in lines] == ["tied", "reciprocal"]
    for line in lines:
        assert np.shape(line["validation_accuracy"]) == (2, 2)
        for kind in ("update_angle_degrees", "feedback_angle_degrees"):
            # Before learning and after both epochs, each seed.
            assert {layer: np.shape(rows) for layer, rows in line[kind].items()} == {
                "Dense_0": (3, 2),
                "Dense_1": (3, 2),
            }
    tied, reciprocal = (np.array(line["update_angle_degrees"]["Dense_0"]) for line in lines)
    np.testing.assert_allclose(tied, 0, atol=0.1)  # the arccos of rounding
    assert (reciprocal > 10).all()
    # Whatever the feedback, the read-out's own update is the gradient.
    np.testing.assert_allclose(lines[1]["update_angle_degrees"]["Dense_1"], 0, atol=0.1)
    assert (folder / "picture.png").exists() and (folder / "angles.png").exists()
    before = json.loads((folder / "summary.json").read_text())
    assert before["missing"] == [] and {"commit", "command", "device", "versions"} <= set(before)

    # A kill in the middle of the second line: only its setting runs again, to the same numbers.
    text = (folder / "settings.jsonl").read_text()
    (folder / "settings.jsonl").write_text(text[: len(text) - 40])
    trained, train = [], controls_run.train
    monkeypatch.setattr(
        controls_run, "train", lambda s, *rest: trained.append(s.label) or train(s, *rest)
    )
    controls.main([*command, "--resume"])
    assert trained == ["reciprocal"]
    after = json.loads((folder / "summary.json").read_text())
    for one, other in zip(before["results"], after["results"], strict=True):
        assert one["test_accuracy"] == other["test_accuracy"]

    with pytest.raises(UserError, match="holds another run: add --resume"):
        controls.main(command)
    with pytest.raises(UserError, match="'tied' differs"):
        controls.main([*command, "--resume", "--seeds", "5"])


def test_data_that_are_missing_are_told_before_anything_is_trained(small, tmp_path, monkeypatch):
    def other(given):
        config = configs.replace(SMALL, {"dataset": "mnist"})
        return Control("?", (Setting("later", "q_agrel", config),))

    monkeypatch.setitem(catalogue._CONTROLS, "other", other)
    monkeypatch.setattr(controls_run, "train", None)
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    monkeypatch.setattr("qagrel_jax.data.loading.tfds.prepare", _cannot_be_had)
    with pytest.raises(UserError, match="cannot be had"):
        controls.main(["small", "other", f"--out={tmp_path / 'out'}", f"--data-dir={nowhere}"])
    assert not (tmp_path / "out" / "small" / "settings.jsonl").exists()


@pytest.mark.parametrize("error", [UserError("broken"), OSError(28, "No space left on device")])
def test_an_error_leaves_the_plans_of_the_controls_that_had_not_begun(
    small, tmp_path, monkeypatch, error
):
    for name in ("other", "third"):
        monkeypatch.setitem(catalogue._CONTROLS, name, catalogue._CONTROLS["small"])

    def fails(*_):
        raise error

    monkeypatch.setattr(controls_run, "train", fails)
    said = "broken|cannot write to .*other: No space .*; free some space and resume, or choose"
    with pytest.raises(UserError, match=said):
        controls.main(["other", "small", "third", "--seeds=7", f"--out={tmp_path}"])
    plans = {
        path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("*/plan.json")
    }
    assert plans == {name: {"seeds": 7, "epochs": None} for name in ("small", "other", "third")}


def _cannot_be_had(*_, **__):
    raise data.DataError("cannot be had")


def test_a_resumption_of_nothing_says_so(small, tmp_path, capsys):
    controls.main(["small", "--resume", "--seeds=1", "--epochs=1", f"--out={tmp_path / 'typo'}"])
    assert "holds no controls yet: starting them" in capsys.readouterr().err


def test_a_sweep_draws_no_mean_of_the_quickest_seeds_alone(tmp_path, monkeypatch):
    """Of settings that a seed does not get through there is a cross, no point of the line."""
    drawn = []
    band = controls_plots.plots.band
    monkeypatch.setattr(
        controls_plots.plots,
        "band",
        lambda axes, x, y, *a, **k: (
            drawn.append((list(x), np.asarray(y))) or band(axes, x, y, *a, **k)
        ),
    )
    curves = {1: [[1.0, 1.0]] * 3, 2: [[0.1, 0.1], [0.99, 0.5], [0.99, 0.5]]}
    lines = [
        _line(f"x = {x}", "q_agrel", curve, "q_agrel") | {"x": x} for x, curve in curves.items()
    ]
    control = Control("?", (), x_label="x")
    controls_plots._sweep(tmp_path / "picture.png", control, lines)
    assert [x for x, _ in drawn] == [[1, 2], [1]]
    assert drawn[1][1].tolist() == [[1, 1]]


@pytest.mark.parametrize("picture", ["curves", "sweep", "dots"])
def test_a_picture_names_the_settings_that_diverged(picture, tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(
        drawings, "save", lambda drawing, path: titles.append(drawing.get_suptitle())
    )
    lines = [line | {"x": x} for x, line in enumerate(LINES[1:5])]
    control = Control("?", (), picture=picture, x_label="x")
    controls_plots.draw(tmp_path / "p.png", control, lines)
    controls_plots.draw(tmp_path / "p.png", control, lines[:3])
    assert titles[0].endswith("\ndiverged: breaks")
    assert titles[1] and "diverged" not in titles[1]


def test_settings_of_other_numbers_of_classes_stand_side_by_side(tmp_path, monkeypatch):
    """A row a setting, ordered by the number with most of them; where one diverged, it says so."""
    drawn = []
    monkeypatch.setattr(drawings, "save", lambda drawing, path: drawn.append(drawing))

    def of(classes, label, line):
        per_class = [[0.5] * classes] * len(line["validation_accuracy"])
        changes = {"label": f"{classes} classes, {label}", "classes": classes, "x": classes}
        return line | changes | {"images_an_epoch": 1, "class_accuracy": per_class}

    there, breaks = LINES[1], next(line for line in LINES if line["diverged"])
    lines = [of(2, "a", there), of(2, "c", breaks)]
    lines += [of(5, "a", breaks), of(5, "b", there), of(5, "c", there)]
    controls_plots.draw(tmp_path / "p.png", Control("?", (), picture="discovery"), lines)
    grid = np.reshape(drawn[0].axes[:12], (3, 4))  # then the color bar
    titles = [[axes.get_title() if axes.axison else None for axes in row[::2]] for row in grid]
    assert titles == [
        ["2 classes, a", "5 classes, a"],
        [None, "5 classes, b"],
        ["2 classes, c", "5 classes, c"],
    ]
    says = [[[text.get_text() for text in axes.texts] for axes in row[::2]] for row in grid]
    assert says == [[[], ["diverged"]], [[], []], [["diverged"], []]]
    assert [[len(axes.images) for axes in row[1::2]] for row in grid] == [[1, 0], [0, 1], [0, 1]]


@pytest.mark.slow
def test_a_run_is_resumed_without_being_told_what_it_was(small, tmp_path, monkeypatch):
    """The same controls, and as many seeds and epochs, of those too that had not begun."""
    monkeypatch.setitem(catalogue._CONTROLS, "other", catalogue._CONTROLS["small"])
    trained, train = [], controls_run.train

    def killed(setting, *rest):
        if trained:
            raise KeyboardInterrupt
        return record(setting, *rest)

    def record(setting, *rest):
        trained.append((setting.label, setting.config.seeds, setting.config.epochs))
        return train(setting, *rest)

    monkeypatch.setattr(controls_run, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        controls.main(["small", "other", "--seeds=1", "--epochs=1", f"--out={tmp_path}"])
    monkeypatch.setattr(controls_run, "train", record)
    controls.main(["--resume", f"--out={tmp_path}"])
    assert trained == [("tied", 1, 1), ("reciprocal", 1, 1)] * 2
    assert all((tmp_path / name / "picture.png").is_file() for name in ("small", "other"))
    (tmp_path / "small" / "plan.json").write_text('{"seeds": "many"}')
    with pytest.raises(UserError, match=r"plan\.json is damaged: move .*small away"):
        controls.main(["--resume", f"--out={tmp_path}"])


def test_a_setting_killed_midway_goes_on_in_the_same_bits(folded_keys, tmp_path, monkeypatch):
    """With a curriculum, whose state is part of what is kept, and with angles."""
    monkeypatch.setattr(unfinished, "SECONDS_BETWEEN", 0)
    changes = {
        "epochs": 4,
        "curriculum": "random",
        "curriculum_threshold": 0.2,
        "curriculum_window": 2,
        "batch_size": 32,
    }
    setting, digits = Setting("x", "q_agrel", configs.replace(SMALL, changes)), data.load("digits")
    undisturbed = controls_run.train(setting, digits, True, lambda *_: None)

    def die(epoch, state):
        if epoch == 3:
            raise KeyboardInterrupt

    keep = unfinished.Unfinished(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        controls_run.train(setting, digits, True, die, keep)
    # A kill between the two files: the curves are an epoch ahead of the learners.
    kept = json.loads((tmp_path / "unfinished.json").read_text())
    kept["curves"]["validation_accuracy"].append([0.5, 0.5])
    (tmp_path / "unfinished.json").write_text(json.dumps(kept))
    epochs = []
    resumed = controls_run.train(setting, digits, True, lambda e, _: epochs.append(e), keep)
    assert epochs == [4]
    for line in (undisturbed, resumed):
        del line["train_seconds"]
    assert resumed == undisturbed
    assert np.shape(resumed["active_classes"]) == (4, 2)
    assert resumed["active_classes"][-1][0] > 2
    assert np.shape(resumed["class_accuracy"]) == (4, 10)
    for kind in ("update_angle_degrees", "feedback_angle_degrees"):
        assert {np.shape(rows) for rows in resumed[kind].values()} == {(5, 2)}
    # Damaged curves: from the beginning.
    damages = [b"", b"\xff", b"[]", b"{}", b'{"label": "x"}']
    without_angles = {k: v for k, v in kept["curves"].items() if "angle" not in k}
    wrong_angles = kept["curves"] | {"update_angle_degrees": {"Dense_0": 3}}
    curves = ({}, 3, without_angles, wrong_angles)
    for edit in ({"seconds": "x"}, *({"curves": each} for each in curves)):
        damages.append(json.dumps(kept | edit).encode())
    line = {**resumed, "config": kept["config"]}
    for damage in damages:
        (tmp_path / "unfinished.json").write_bytes(damage)
        assert keep.load("x", None, line) == (None, 0.0)
    # Another setting does not take it up, and what is done is forgotten.
    (tmp_path / "unfinished.json").write_text(json.dumps(kept))
    other = Setting("y", "q_agrel", configs.replace(SMALL, changes))
    assert keep.load("y", None, {"config": configs.to_json(other.config)}) == (None, 0.0)
    assert not list(tmp_path.glob("*unfinished*"))
    keep.clear()
    assert not list(tmp_path.iterdir())


def test_images_to_criterion_by_hand():
    almost = _line("almost", "q_agrel", [[0.94, 0.94], [0.96, 0.97], [0.97, 0.98]])
    lines = [line | {"images_an_epoch": 100} for line in (*LINES, almost)]
    content = controls_summary.summarize("x", "?", lines, [])
    found = {r["label"]: r["images_to_criterion"] for r in content["results"]}
    assert found["almost"] == {"0.95": [200, 200], "0.98": [None, 300]}
    assert found["backprop"] == {"0.95": [200, 200], "0.98": [200, 200]}
    assert found["one seed fails"] == {"0.95": [300, None], "0.98": [300, None]}


def test_the_picture_of_a_curriculum(tmp_path):
    lines = [
        line
        | {
            "images_an_epoch": 100,
            "active_classes": [[2, 2], [3, 4], [10, 10]],
            "class_accuracy": np.random.default_rng(0).uniform(size=(3, 10)).tolist(),
        }
        for line in LINES[1:3]
    ]
    controls_plots.draw(tmp_path / "p.png", Control("?", (), picture="discovery"), lines)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_settings_accuracy_is_that_of_its_best_parameters(folded_keys, monkeypatch):
    best = []

    def fit(trainer, run, train, monitored, **options):
        """Forget everything in the one epoch there is."""
        best.append(jax.tree.map(np.asarray, run.best.params))
        forgotten = jax.tree.map(np.zeros_like, best[0])
        run = run._replace(states=run.states._replace(params=forgotten))
        nothing = np.zeros(2)
        yield run, fitting.EpochRecord(1, nothing, np.zeros((2, 10)), nothing, nothing, nothing)

    monkeypatch.setattr(fitting, "fit", fit)
    digits = data.load("digits")
    line = controls_run.train(Setting("x", "q_agrel", SMALL), digits, False, lambda *_: None)
    for seed in range(2):
        hidden = digits.test_images.reshape(360, -1) / 255 @ best[0]["Dense_0"]["kernel"][seed]
        chosen = (np.maximum(hidden, 0) @ best[0]["Dense_1"]["kernel"][seed]).argmax(1)
        right = np.mean(chosen == digits.test_labels)
        np.testing.assert_allclose(line["test_accuracy"][seed], right, rtol=1e-6)


def test_a_setting_that_diverges_is_a_result(folded_keys):
    setting = Setting("x", "q_agrel", configs.replace(SMALL, {"learning_rate": 1e9, "seeds": 1}))
    line = controls_run.train(setting, data.load("digits"), False, lambda epoch, state: None)
    assert "diverged at step" in line["diverged"]
    assert line["validation_accuracy"] == []


def test_one_seed_that_diverges_ends_its_setting(folded_keys, monkeypatch):
    def fit(trainer, run, train, monitored, **options):
        nothing = np.zeros(2)
        error = fitting.DivergedError(1, 7, 1)
        values = nothing, np.zeros((2, 10)), nothing, nothing, nothing
        yield run, fitting.EpochRecord(1, *values, diverged=(error,))
        raise AssertionError("a second epoch")

    monkeypatch.setattr(fitting, "fit", fit)
    small = configs.replace(SMALL, {"first_seed": 3, "seeds": 2})
    line = controls_run.train(
        Setting("x", "q_agrel", small), data.load("digits"), False, lambda *_: None
    )
    assert line["diverged"] == "seed 4 diverged at step 7 (epoch 1): NaN or infinity"
    assert line["validation_accuracy"] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nosuch"], "unknown control 'nosuch'; valid: reward"),
        (["--seeds", "0"], "must be in [1, 1000000], got 0"),
        (["--epochs", "x"], "'x' is not a whole number"),
        (["--resume"], "--resume needs --out"),
        (["reward", "--out", "FILE"], "cannot write to"),
    ],
)
def test_bad_input_is_one_line(arguments, says, tmp_path, capsys):
    (tmp_path / "file").touch()
    arguments = [str(tmp_path / "file") if a == "FILE" else a for a in arguments]
    with pytest.raises(SystemExit) as stop:
        cli.run(controls.main, arguments)
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert says in message and message.count("\n") == 1


def test_labels_of_older_runs_are_shown_in_the_fields_terms():
    """And stay as they are where a run is resumed by them."""
    assert controls_settings.shown("read-out alone learns") == "only the output layer learns"
    assert controls_settings.shown("He, rate 0.1") == "He, rate 0.1"
    labels = {s.label for s in catalogue.load("attention", None, None).settings}
    assert "read-out alone learns" in labels


def test_settings_of_another_batch_or_number_of_classes_are_not_compared():
    """Of backprop with larger batches neither the accuracy nor the epochs are anyone's measure."""
    larger = _line("larger batches", "backprop", [[0.9, 0.9]] * 3, "family", batch_size=64)
    slower = _line("slower", "backprop", [[0.5, 0.5], *[[0.9, 0.9]] * 2], "b", batch_size=64)
    ours = _line("q_agrel", "q_agrel", [[0.5, 0.5], [0.7, 0.7], [0.8, 0.8]], "family")
    fewer = _line("fewer classes", "q_agrel", [[0.6, 0.6]] * 3, "family", classes=2)
    broken = _line("breaks", "backprop", [], "family", diverged="seed 0 diverged")
    del broken["best_validation_accuracy"]  # as training leaves it
    content = controls_summary.summarize("x", "?", [larger, slower, ours, fewer, broken], [])
    found = {result["label"]: result for result in content["results"]}
    assert found["q_agrel"]["criterion_accuracy"] == 0.98 * 0.8
    assert found["q_agrel"]["slowdown"] is None
    assert found["larger batches"]["slowdown"] == 1 and found["slower"]["slowdown"] == 2
    # The best of a family, for each number of classes.
    chosen = {label for label, result in found.items() if result["chosen"]}
    assert chosen == {"larger batches", "slower", "fewer classes"}


def test_angles_are_those_after_the_last_epoch():
    angles = {"Dense_0": [[90.0, 80.0], [20.0, None]], "Dense_1": [[90.0, 80.0], [10.0, 20.0]]}
    line = _line("x", "q_agrel", [[0.5, 0.5]]) | {"update_angle_degrees": angles}
    found = controls_summary.last_angles(line)
    assert found == {"update_angle_degrees": {"Dense_0": 20.0, "Dense_1": 15.0}}
