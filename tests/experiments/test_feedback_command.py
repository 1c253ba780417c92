"""``python -m experiments.feedback``: cells that merge, resume and are summed up."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from experiments import config as configs
from experiments import plots as drawings
from experiments import reports
from experiments.common import files, folders
from experiments.common.cli import UserError
from experiments.feedback import __main__ as command
from experiments.feedback import cells, plots, summary
from experiments.train import __main__ as train_command
from experiments.train import angles, build, layer_names
from qagrel_jax import data, training
from tests.experiments import running

QUICK = ["--configs", "digits", "--hidden", "9,8", "--epochs", "2", "--batch-size", "128"]


pytestmark = pytest.mark.usefixtures("folded_keys")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Cells of two calls into one folder."""
    out = tmp_path_factory.mktemp("feedback") / "out"
    base = [*QUICK, "--rules", "backprop", "--out", str(out)]
    command.main([*base, "--kinds", "random,output_layer_only"])
    command.main([*base, "--kinds", "tied"])
    return out


def test_cells_of_several_calls_are_summed_up_together(finished):
    content = json.loads((finished / "summary.json").read_text())
    by_kind = {result["kind"]: result for result in content["results"]}
    assert list(by_kind) == ["tied", "random", "output_layer_only"]
    for kind, result in by_kind.items():
        accuracy = json.loads((finished / f"digits/{kind}/backprop/summary.json").read_text())
        assert result["test_accuracy"] == accuracy["results"][0]["test_accuracy"]
        assert result["finished"] and result["epochs"] == 2 and result["seeds"] == [0, 1]
        if kind != "tied":
            d = np.subtract(result["test_accuracy"], by_kind["tied"]["test_accuracy"])
            np.testing.assert_allclose(result["minus_tied"]["mean"], 100 * d.mean(), atol=1e-4)
            assert result["minus_tied"]["seeds"] == 2
    assert by_kind["tied"]["minus_tied"] is None
    measured = by_kind["random"]["angles_by_epoch"]
    for measure in ("feedback_angle_degrees", "update_angle_degrees", "update_norm_ratio"):
        assert list(measured[measure]) == ["Dense_0", "Dense_1", "Dense_2"]
        assert np.shape(measured[measure]["Dense_1"]) == (2, 2)  # epochs, seeds
    last = summary.last_angles(by_kind["random"])
    updates = [np.mean(measured["update_angle_degrees"][f"Dense_{i}"][-1]) for i in (0, 1)]
    np.testing.assert_allclose(last["hidden_update"], np.mean(updates), atol=1e-9)
    middle = measured["feedback_angle_degrees"]["Dense_1"][-1]
    np.testing.assert_allclose(last["hidden_feedback"], np.mean(middle), atol=1e-9)
    assert summary.last_angles(by_kind["tied"]) == dict.fromkeys(last)
    for picture in ("accuracy.png", "angles_backprop.png", "random/backprop/angles.png"):
        assert (finished / "digits" / picture).read_bytes().startswith(b"\x89PNG")


def test_what_is_done_is_left_alone_and_what_is_missing_goes_on(
    finished, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    cell = out / "digits/random/backprop"
    before = (cell / "metrics.jsonl").read_bytes()
    lines = before.splitlines(keepends=True)
    (cell / "metrics.jsonl").write_bytes(b"".join(lines[:1]))  # as if the last epoch had not been
    for name in ("summary.json", "checkpoint_backprop.msgpack"):
        (cell / name).unlink()
    ran, run = [], train_command.run
    monkeypatch.setattr(
        train_command,
        "run",
        lambda config, *a, **k: ran.append(config.feedback) or run(config, *a, **k),
    )
    arguments = [*QUICK, "--rules", "backprop", "--out", str(out), "--kinds", "tied,random"]
    command.main(arguments)
    assert ran == ["random"]
    assert (cell / "metrics.jsonl").read_bytes() == before  # angles included
    shown = capsys.readouterr().out
    assert "2 of 2 cells are done" in shown
    assert all(len(line) <= 80 or str(out) in line for line in shown.splitlines())
    with pytest.raises(UserError, match=r"different config .*learning_rate 0\.1 there, 0\.3 here"):
        command.main([*arguments, "--learning-rate", "0.3"])


def test_what_a_kill_left_undrawn_is_drawn(finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    pictures = sorted(out.rglob("*.png"))
    for path in pictures:
        path.unlink()
    kinds = "tied,random,output_layer_only"
    command.main([*QUICK, "--rules", "backprop", "--out", str(out), "--kinds", kinds])
    assert sorted(out.rglob("*.png")) == pictures and len(pictures) == 9


def test_a_cell_at_which_another_process_works(finished, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    cell = out / "digits/random/backprop"
    (cell / "summary.json").unlink()
    with folders.locked(cell), pytest.raises(SystemExit) as stop:
        command.main([*QUICK, "--rules", "backprop", "--out", str(out), "--kinds", "tied,random"])
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert f"another process is at work in {cell}" in captured.err
    assert "1 of 2 cells are done" in captured.out


def test_the_page(finished, tmp_path):
    assert reports.section("feedback", tmp_path) == "*Not run.*"
    folder = tmp_path / "feedback"
    for name in ("summary.json", "digits/accuracy.png", "digits/angles_backprop.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(finished / name, folder / name)
    text = reports.section("feedback", tmp_path)
    found = json.loads((finished / "summary.json").read_text())["results"]
    tied, random, _ = (100 * np.array(r["test_accuracy"]) for r in found)
    cells_of = [
        cell.strip()
        for cell in next(line for line in text.splitlines() if line.startswith("| random")).split(
            "|"
        )[1:-1]
    ]
    mean, sd = random.mean(), random.std(ddof=1)
    assert cells_of[1] == f"{mean:.2f} ({sd:.2f})"
    d = random - tied  # of two seeds: t(0.975, 1) = 12.7062
    half = 12.7062 * d.std(ddof=1) / 2**0.5
    shown = [float(number) for number in re.findall(r"[+-][\d.]+", cells_of[2])]
    np.testing.assert_allclose(shown, [d.mean(), d.mean() - half, d.mean() + half], atol=0.0051)
    assert "### `digits`, backprop" in text and "(digits/angles_backprop.png)" in text
    assert "digits, dense 9–8, backprop, 2 epochs, 2 seeds" in text
    alone = found[0] | {"seeds": [0]}
    assert summary.title([alone, *found]).endswith("2 epochs, 1–2 seeds")
    assert summary.title([alone]).endswith("2 epochs, 1 seed")


def test_the_page_names_the_commits_of_further_seeds(finished, tmp_path):
    content = json.loads((finished / "summary.json").read_text())
    first, *rest = content["results"]
    assert all(len(r["commits"]) == len(r["commands"]) == 1 for r in content["results"])
    further = first | {"commits": ["1" * 40, "2" * 40]}
    earlier = [{k: v for k, v in r.items() if k != "commits"} | {"commit": "3" * 40} for r in rest]
    (tmp_path / "feedback").mkdir()
    page = json.dumps(content | {"results": [further, *earlier]})
    (tmp_path / "feedback" / "summary.json").write_text(page)
    assert "commit `1111111`, `2222222`, `3333333`." in reports.section("feedback", tmp_path)


def test_the_headline_has_a_column_for_each_network_and_rule(finished, tmp_path):
    content = json.loads((finished / "summary.json").read_text())
    tied = content["results"][0]
    conv = {"dataset": "mnist", "architecture": "conv"}
    other = {"config_name": "mnist_conv", "config": conv, "finished": False}
    content["results"] += [tied | {"rule": "q_agrel"}, tied | other]
    (tmp_path / "feedback").mkdir()
    (tmp_path / "feedback" / "summary.json").write_text(json.dumps(content))
    lines = reports.section("feedback_headline", tmp_path).splitlines()
    networks = "digits, dense: Q-AGREL | digits, dense: backprop | mnist, conv: backprop"
    assert f"| feedback | {networks} |" in lines
    accuracy = 100 * np.array(tied["test_accuracy"])
    shown = f"{accuracy.mean():.2f} ({accuracy.std(ddof=1):.2f})"
    assert f"| tied | {shown} | {shown} | {shown}\\* |" in lines
    random = next(line for line in lines if line.startswith("| random | – |"))
    angle = summary.last_angles(content["results"][1])["hidden_feedback"]
    assert f", {angle:.0f}° | – |" in random


def test_angles_of_further_seeds_stand_beside_those_of_the_first():
    def part(*rows):
        return {"feedback_angle_degrees": {"Dense_0": [*rows]}, "update_norm_ratio": {}}

    joined = summary._side_by_side([part([90.0, 80.0], [70.0, None]), part([60.0], [50.0])])
    assert joined == part([90.0, 80.0, 60.0], [70.0, None, 50.0])


def test_a_ratio_to_a_gradient_of_zero_is_none():
    """JSON has no infinite number: the epoch could not be written."""
    ratios = np.array([np.inf, np.nan, 0.5])
    assert angles.numbers(ratios) == [None, None, 0.5]


def test_networks_of_the_same_shape_have_columns_of_their_own(finished, tmp_path):
    content = json.loads((finished / "summary.json").read_text())
    content["results"] += [r | {"config_name": "digits_fast"} for r in content["results"]]
    (tmp_path / "feedback").mkdir()
    (tmp_path / "feedback" / "summary.json").write_text(json.dumps(content))
    text = reports.section("feedback_headline", tmp_path)
    assert "| digits, dense (digits): backprop | digits, dense (digits_fast): backprop |" in text
    assert "(2 epochs: digits dense)" in text


def test_the_output_layer_alone_learns_and_statistics_of_hidden_units_do_not_count():
    config = configs.replace(configs.load("digits"), {"hidden": (6,), "trained_layers": "output"})
    dataset = data.load("digits")
    splits = build.make_splits(dataset, config)
    trainer = build.make_trainer(configs.replace(config, {"l2": 0.01}), "q_agrel", dataset, splits)
    start = build.start(trainer, configs.replace(config, {"seeds": 1}), dataset)
    before = jax.device_get(start.states.params)
    fitted = training.fitting.fit(
        trainer, start, splits.train, splits.monitored, epochs=1, patience=9
    )
    (after, _), *_ = fitted
    np.testing.assert_array_equal(
        after.states.params["Dense_0"]["kernel"], before["Dense_0"]["kernel"]
    )
    assert np.abs(after.states.params["Dense_1"]["kernel"] - before["Dense_1"]["kernel"]).max() > 0


def test_the_output_layer_of_each_network():
    for architecture, shape in (
        ("dense", (8, 8, 1)),
        ("conv", (8, 8, 1)),
        ("locally_connected", (8, 8, 1)),
        ("deep", (8, 8, 1)),
    ):
        config = configs.replace(
            configs.load("digits"),
            {"architecture": architecture, "hidden": (3,) if architecture == "dense" else None},
        )
        network = build.build_network(config, 10)
        params = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, *shape), np.float32))
        hidden = layer_names.is_hidden(params["params"])
        learns = [name for name, mask in hidden.items() if not all(jax.tree.leaves(mask))]
        assert [params["params"][name]["kernel"].shape[-1] for name in learns] == [10]


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        ("kolen_pollack", {"feedback_scale": 2.0, "feedback_l2": 0.1, "feedback_init": "he"}),
        ("random", {"feedback_scale": 2.0, "feedback_init": "he"}),
        ("sign", {"feedback_scale": 2.0}),
        ("tied", {}),
        ("output_layer_only", {}),
    ],
)
def test_settings_reach_the_kinds_that_have_them(kind, kept, tmp_path):
    given = {"feedback_scale": 2.0, "feedback_l2": 0.1, "feedback_init": "he", "l2": 0.2}
    (cell,) = cells.plan(tmp_path, ("digits",), (kind,), ("q_agrel",), given)
    default = configs.load("digits")
    for name in ("feedback_scale", "feedback_l2", "feedback_init"):
        assert getattr(cell.config, name) == kept.get(name, getattr(default, name))
    assert cell.config.l2 == 0.2 and cell.config.protocol == "clean"
    assert cell.config.trained_layers == ("output" if kind == "output_layer_only" else "all")
    assert cell.folder == tmp_path / "digits" / kind / "q_agrel"


@pytest.mark.slow
def test_training_is_the_same_whether_angles_are_measured_and_nothing_is_compiled_twice(tmp_path):
    base = {
        "hidden": (6, 5),
        "feedback": "random",
        "epochs": 3,
        "seeds": 2,
        "batch_size": 128,
        "rules": ("q_agrel",),
        "patience": 3,
    }
    found, compiled = {}, []
    make = angles._comparison

    def counting(learner):
        compare = make(learner)

        def counted(*args):
            compiled.append(1)
            return compare(*args)

        return counted

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(angles, "_comparison", counting)
        for images in (0, 32):
            config = configs.replace(configs.load("digits"), base | {"angle_images": images})
            train_command.run(config, tmp_path / str(images))
            found[images] = files.read_metrics(tmp_path / str(images))
    assert len(compiled) == 1  # two seeds, three epochs
    for without, having in zip(found[0], found[32], strict=True):
        measured = {name: having.pop(name) for name in (angles.UPDATE, angles.NORM)}
        assert all(len(values) == 2 for values in measured[angles.UPDATE].values())
        assert without == having


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--kinds", "magic"], "unknown kind 'magic'; valid: tied"),
        (["--configs", "digits,digits"], "the same value twice"),
        (["--rules", "hebb"], "unknown rule 'hebb'; valid: q_agrel"),
        (["--feedback", "tied"], "unrecognized arguments"),
    ],
)
def test_bad_input_is_one_line(arguments, says, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    assert stop.value.code == 2 and says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--kinds", "tied,random", "--feedback-rate", "0.5"], "--feedback-rate does nothing with"),
        (["--curriculum-start", "3"], "--curriculum-start does nothing without --curriculum"),
    ],
)
def test_what_changes_nothing_in_any_cell_is_refused(arguments, says, tmp_path):
    with pytest.raises(UserError, match=says):
        command.main([*arguments, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["file/below", "dangling/below"])
def test_an_output_folder_that_cannot_be_is_refused_before_anything_runs(place, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "at all")
    done = running.run(command.main, *QUICK, "--out", tmp_path / place)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert f"cannot write to {tmp_path / place}" in line


def test_cells_that_cannot_begin_say_why_once(tmp_path):
    out = tmp_path / "out"
    arguments = ["--configs", "digits", "--batch-size", "100000", "--out", out]
    done = running.run(command.main, *arguments, "--kinds", "tied,random", "--rules", "q_agrel")
    assert done.returncode == 2 and not out.exists()
    (line,) = done.stderr.splitlines()
    assert "--batch-size 100000 is larger than the 1293 training images" in line


def test_a_device_error_leaves_the_other_cells(tmp_path, monkeypatch, capsys):
    tried = []

    def out_of_memory(config, folder, *rest, **given):
        tried.append(config.feedback)
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nand where")

    monkeypatch.setattr(train_command, "run", out_of_memory)
    with pytest.raises(SystemExit) as stop:
        command.main([*QUICK, "--kinds", "tied,random", "--out", str(tmp_path / "out")])
    assert stop.value.code == 1 and {"tied", "random"} == set(tried)
    printed = capsys.readouterr()
    assert len(printed.err.splitlines()) == len(tried)
    assert "digits, tied, q_agrel: RESOURCE_EXHAUSTED: out of memory" in printed.err
    assert f"0 of {len(tried)} cells are done" in printed.out


def write_cell(out, kind, accuracy=None, rule="backprop", epochs=2, **given):
    """Write a cell as training leaves it: finished with ``accuracy``, or after one epoch."""
    given = {"seeds": 2, "epochs": epochs} | given
    (cell,) = cells.plan(out, ("digits",), (kind,), (rule,), given)
    cell.folder.mkdir(parents=True)
    files.write_json(cell.folder / configs.FILE, configs.to_json(cell.config))
    monitored = "test_accuracy" if cell.config.protocol == "paper" else "validation_accuracy"
    for epoch in range(1, 1 + (1 if accuracy is None else epochs)):
        line = {"rule": rule, "epoch": epoch, monitored: [0.5] * cell.config.seeds}
        files.append_line(cell.folder / "metrics.jsonl", line)
    if accuracy is not None:
        environment = {"command": "do it", "commit": "1" * 40, "device": "abacus", "versions": {}}
        files.append_line(cell.folder / "environments.jsonl", environment)
        entry = {"rule": rule, "test_accuracy": accuracy, "stopped_early": [False] * len(accuracy)}
        files.write_json(cell.folder / "summary.json", {"results": [entry]})
    return cell.folder


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--first-seed", "5"], "backprop_from_seed_5 is not the same run as .* from seed 2 on: "),
        (["--first-seed", "1"], "backprop_from_seed_1 is not the same run as .* from seed 2 on: "),
        (
            ["--first-seed", "2", "--learning-rate", "0.05"],
            "learning_rate 0.1 in backprop, 0.05 in backprop_from_seed_2",
        ),
        (["--first-seed", "2", "--epochs", "3"], "epochs 2 in backprop, 3 in backprop_from_seed_2"),
    ],
)
def test_seeds_that_cannot_follow_are_refused_before_training(options, says, tmp_path, monkeypatch):
    write_cell(tmp_path, "tied", [0.5, 0.6])
    ran = []
    monkeypatch.setattr(train_command, "run", lambda *a, **k: ran.append(a))
    asked = ["--configs", "digits", "--kinds", "random,tied", "--rules", "backprop"]
    asked += ["--seeds", "2", "--epochs", "2"]
    with pytest.raises(UserError, match=says):
        command.main([*asked, "--out", str(tmp_path), *options])
    assert not ran


def test_seeds_that_follow_are_planned_and_summed_up(tmp_path):
    write_cell(tmp_path, "tied", [0.5, 0.6], first_seed=2)  # on another machine, before the first
    write_cell(tmp_path, "tied", [0.7, 0.8])
    (result,) = summary.summarize(tmp_path)["results"]
    assert (result["seeds"], result["finished"]) == ([0, 1, 2, 3], True)
    assert result["test_accuracy"] == [0.7, 0.8, 0.5, 0.6]


def test_cells_of_further_seeds_get_more_epochs_one_after_the_other(tmp_path):
    for first_seed in (0, 2):
        write_cell(tmp_path, "tied", [0.5, 0.6], first_seed=first_seed)
    for first_seed in (0, 2):
        given = {"seeds": 2, "first_seed": first_seed, "epochs": 5}
        (cell,) = cells.plan(tmp_path, ("digits",), ("tied",), ("backprop",), given)
        files.write_json(cell.folder / configs.FILE, configs.to_json(cell.config))
        if first_seed == 0:  # no budget is that of all seeds
            with pytest.raises(UserError, match="epochs 5 in backprop, 2 in backprop_from_seed_2"):
                summary.summarize(tmp_path)
    assert summary.summarize(tmp_path)["results"][0]["seeds"] == [0, 1, 2, 3]


def test_cells_of_another_protocol_have_no_difference_and_settings_are_told(tmp_path, capsys):
    out = tmp_path / "feedback"
    write_cell(out, "tied", [0.5, 0.6])
    write_cell(out, "random", [0.4, 0.4], protocol="paper")
    write_cell(out, "sign", [0.52, 0.64], batch_size=32, feedback_scale=2.0)
    content = summary.summarize(out)
    tied, random, sign = content["results"]
    assert random["minus_tied"] is None
    np.testing.assert_allclose(sign["minus_tied"]["mean"], 3.0)  # of 2 and 4 points
    files.write_json(out / "summary.json", content)
    lines = reports.section("feedback", tmp_path).splitlines()
    begin = lines.index("| feedback | feedback_scale | batch_size | protocol |")
    assert lines[begin + 2 : begin + 5] == [
        "| tied | 1 | 16 | clean |",
        "| random | 1 | 16 | paper |",
        "| sign | 2 | 32 | clean |",
    ]
    summary.print_tables(content)
    shown = capsys.readouterr().out
    assert "settings in which the rows differ" in shown and "batch_size" in shown
    summary.print_tables({"results": [tied]})
    assert "settings" not in capsys.readouterr().out


def test_the_picture_of_accuracy_marks_what_the_table_marks(tmp_path, monkeypatch):
    write_cell(tmp_path, "tied", [0.5, 0.6])
    write_cell(tmp_path, "tied", [0.5, 0.6], rule="q_agrel")
    write_cell(tmp_path, "random")
    write_cell(tmp_path, "sign", [0.5, 0.6], epochs=4)
    write_cell(tmp_path, "direct", [0.5, 0.6])
    write_cell(tmp_path, "direct", rule="q_agrel")
    drawn = []
    monkeypatch.setattr(drawings, "save", lambda drawing, path: drawn.append(drawing))

    def parts():
        plots.draw(tmp_path, summary.summarize(tmp_path)["results"])
        picture = drawn.pop()
        names = [label.get_text() for label in picture.axes[0].get_yticklabels()]
        return names, picture.get_suptitle(), picture.get_supxlabel()

    names, title, note = parts()
    assert names == ["tied", "random*", "sign**", "direct\n* Q-AGREL"]
    assert "1–4 epochs, 2 seeds" in title
    assert "* not finished: best validation accuracy so far" in note
    for unlike in ("random", "sign", "direct"):
        shutil.rmtree(tmp_path / "digits" / unlike)
    names, title, note = parts()
    assert (names, note) == (["tied"], "") and "dense 300–200–100, 2 epochs, 2 seeds" in title


def test_a_seed_that_diverged_is_told_beside_its_kind(tmp_path):
    folder = write_cell(tmp_path, "tied", [0.5, 0.1])
    lines = files.read_metrics(folder)
    accuracy = next(key for key in lines[0] if key.endswith("_accuracy"))
    lines[1] |= {accuracy: [0.5, 0.0], "error": [0.5, None]}
    files.write_lines(folder / "metrics.jsonl", lines)
    (result,) = summary.summarize(tmp_path)["results"]
    assert result["diverged_in_epoch"] == [None, 2]
    assert summary.row(result, [result])[0] == "tied (1 of 2 seeds diverged)"


def test_help_shows_the_configs_that_are_asked_for(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for arguments, rate, batch in (
        ([], "0.1", "128"),
        (["--configs", "mnist_conv_fast"], "0.001", "128"),
        (["--configs=digits"], "0.1", "16"),
        (["--configs", "mnist_conv_fast,digits"], "the config's", "the config's"),
    ):
        with pytest.raises(SystemExit) as stop:
            command.main([*arguments, "--help"])
        text = capsys.readouterr().out
        assert stop.value.code == 0
        assert f"step size (default: {rate})" in text
        assert f"examples a step (default: {batch})" in text
        assert "at most (default: 40)" in text  # of the comparison, whatever the configs say


ANGLES = ("feedback_angle_degrees", "update_angle_degrees", "update_norm_ratio")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.jsonl", {"validation_accuracy": None}),
        ("metrics.jsonl", {"validation_accuracy": ["x"]}),
        ("metrics.jsonl", {"validation_accuracy": 3}),
        ("metrics.jsonl", {ANGLES[0]: 3}),
        ("metrics.jsonl", {ANGLES[1]: {"Dense_0": 4}}),
        ("metrics.jsonl", {ANGLES[2]: {"Dense_0": ["x"]}}),
        ("metrics.jsonl", {ANGLES[2]: {"nonsense": [1.0]}}),
        ("summary.json", {}),
        ("summary.json", {"results": 3}),
        ("summary.json", {"results": []}),
        ("summary.json", {"results": [{"rule": "backprop", "test_accuracy": {}}]}),
    ],
)
def test_damaged_files_of_a_cell_are_named(name, content, tmp_path):
    (cell,) = cells.plan(tmp_path, ("digits",), ("random",), ("backprop",), {"seeds": 1})
    cell.folder.mkdir(parents=True)
    files.write_json(cell.folder / configs.FILE, configs.to_json(cell.config))
    line = {"rule": "backprop", "epoch": 1, "validation_accuracy": [0.5]}
    line |= {angle: {"Dense_0": [1.0]} for angle in ANGLES}
    files.append_line(cell.folder / "metrics.jsonl", line)
    assert summary.summarize(tmp_path)["results"][0]["best_epoch"] == [1]
    if name == "metrics.jsonl":
        files.append_line(cell.folder / name, {**line, "epoch": 2, **content})
    else:
        files.write_json(cell.folder / name, content)
    with pytest.raises(UserError, match=f"{cell.folder}.*{name}.*move"):
        summary.summarize(tmp_path)


def test_lines_without_rule_or_epoch_are_left_out(tmp_path):
    (cell,) = cells.plan(tmp_path, ("digits",), ("random",), ("backprop",), {"seeds": 1})
    cell.folder.mkdir(parents=True)
    files.write_json(cell.folder / configs.FILE, configs.to_json(cell.config))
    files.append_line(cell.folder / "metrics.jsonl", {})
    assert summary.summarize(tmp_path)["results"] == []


def test_differences_are_of_the_same_seeds_and_as_many_epochs(tmp_path):
    """Seeds 0 and 1 against 1 and 2: of 1 alone; another budget is not compared."""
    out = tmp_path / "feedback"
    write_cell(out, "tied", [0.5, 0.6])
    write_cell(out, "random", [0.64, 0.9], first_seed=1)
    write_cell(out, "sign", [0.52, 0.64], epochs=3)
    found = {result["kind"]: result for result in summary.summarize(out)["results"]}
    assert found["random"]["minus_tied"]["seeds"] == 1
    np.testing.assert_allclose(found["random"]["minus_tied"]["mean"], 4.0)
    assert found["sign"]["minus_tied"] is None


@pytest.mark.parametrize("content", ['{"task": "xor"}', None])
def test_another_commands_results_are_not_replaced(content, tmp_path):
    """Neither its summary, nor what lies beside other files."""
    held = tmp_path / ("summary.json" if content else "paper.txt")
    held.write_text(content or "mine")
    arguments = ["--configs", "digits", "--kinds", "tied", "--rules", "backprop"]
    with pytest.raises(UserError, match="holds another run or other files"):
        command.main([*arguments, "--out", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == [held.name]
    assert held.read_text() == (content or "mine")
