"""``python -m experiments.update_statistics``: one small run, its resumption, bad input."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import config as configs
from experiments import plots
from experiments.common import cli
from experiments.common.cli import UserError
from experiments.train import build
from experiments.update_statistics import __main__ as command
from experiments.update_statistics import batches, instrument, references, settings, stages
from experiments.update_statistics import plots as statistics_plots
from experiments.update_statistics import summary as statistics_summary
from experiments.update_statistics.summary import ALL
from qagrel_jax import data
from qagrel_jax.training import TrainState, fitting

pytestmark = pytest.mark.usefixtures("folded_keys")

CONFIG = """
from experiments.config import Config
config = Config("small", "digits", {architecture!r}, hidden={hidden}, batch_size=64)
"""


def _config(tmp_path, architecture="dense", hidden=(6,)):
    path = tmp_path / "small.py"
    path.write_text(CONFIG.format(architecture=architecture, hidden=hidden))
    return str(path)


def _lines(folder):
    return [json.loads(line) for line in (folder / "measurements.jsonl").read_text().splitlines()]


def test_a_run_and_its_resumption(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    rules = "q_agrel,node_perturbation,feedback_alignment"
    arguments = (
        f"{_config(tmp_path)} --rules {rules} --stages 0,1 --classes 3 --batch-sizes 4,2 "
        f"--images 50 --samples 20 --seeds 2 --out {folder}"
    ).split()
    command.main(arguments)
    lines = _lines(folder)
    assert len(lines) == 3 * 2 * 2
    shown = [line for line in capsys.readouterr().out.splitlines() if str(folder) not in line]
    assert max(map(len, shown)) <= 80 and "…" not in "".join(shown)
    for line in lines:
        own = line["rule"] == "feedback_alignment"
        assert line["weights"] == ("feedback_alignment" if own else "q_agrel")
        assert line["exact"] == (line["rule"] != "node_perturbation")
        exact = line["batches"]["4"]["standard_errors"] is None
        assert exact == line["exact"]
        four, two = (line["batches"][b]["statistics"]["cross_entropy"][ALL] for b in "42")
        if exact:
            np.testing.assert_allclose(two["variance"], 2 * four["variance"], rtol=1e-3)
    of = {(x["rule"], x["stage"], x["seed"]): x["batches"]["4"]["statistics"] for x in lines}
    # Each descends its own objective; feedback alignment does at the output layer.
    assert of["q_agrel", 1, 0]["prediction_error"][ALL]["angle"] < 0.1
    assert of["feedback_alignment", 1, 0]["cross_entropy"]["Dense_1"]["angle"] < 0.1
    assert of["feedback_alignment", 1, 0]["cross_entropy"]["Dense_0"]["angle"] > 10
    assert of["q_agrel", 0, 0] != of["q_agrel", 1, 0] != of["q_agrel", 1, 1]
    summary = json.loads((folder / "summary.json").read_text())
    assert len(summary["results"]) == 3 * 2 * 2  # rules, stages, batch sizes
    assert {"commit", "command", "device"} <= set(summary)
    mean = summary["results"][0]["cross_entropy"][ALL]["variance"]["mean"]
    both = [of["q_agrel", 0, s]["cross_entropy"][ALL]["variance"] for s in (0, 1)]
    np.testing.assert_allclose(mean, np.mean(both), rtol=1e-3)
    assert (folder / "bias_and_variance.png").read_bytes().startswith(b"\x89PNG")
    assert not list(folder.glob("weights_*"))

    # A kill in the middle of the last line: it alone is measured again, to the same numbers.
    text = (folder / "measurements.jsonl").read_text()
    (folder / "measurements.jsonl").write_text(text[:-100])
    with (folder / "measurements.jsonl").open("a") as file:
        file.write('\n17\n{}\n{"rule": "q_agrel", "batches": 3}\n')
    measured, plain = [], instrument.Instrument.measure
    monkeypatch.setattr(
        instrument.Instrument, "measure", lambda self, *a: measured.append(a[1]) or plain(self, *a)
    )
    command.main(["--resume", "--out", str(folder)])
    assert measured == [1] and _lines(folder) == lines

    plan = json.loads((folder / "plan.json").read_text())
    for change, says in (
        ({"samples": "x"}, "plan.json is no plan \\(samples 'x'\\)"),
        ({"nonsense": 1}, "plan.json is no plan \\(nonsense 1\\)"),
        ({"stages": ["x"]}, "plan.json is no plan \\(stages"),
    ):
        (folder / "plan.json").write_text(json.dumps(plan | change))
        with pytest.raises(UserError, match=says):
            command.main(["--resume", "--out", str(folder)])
    (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(UserError, match="holds another run: add --resume"):
        command.main(arguments)
    with pytest.raises(UserError, match=r"started with other settings \(stages\)"):
        command.main(["--resume", "--out", str(folder), "--stages", "0"])
    # The same command once more: the config's own number of seeds was not asked for.
    command.main([arguments[0], "--resume", "--out", str(folder)])


def test_a_network_with_batchnorm_is_sampled(tmp_path, monkeypatch):
    """Its gradient depends on the batch, so that it is estimated, too."""
    plan = command._plan(
        command._parser().parse_args([_config(tmp_path, "conv", None), "--seeds", "1"])
    )
    assert plan.method == "sampled"
    with pytest.raises(UserError, match="--method exact needs a network without BatchNorm"):
        command._plan(
            command._parser().parse_args([_config(tmp_path, "conv", None), "--method", "exact"])
        )
    kernels = [{"out": {"kernel": np.full(1, i, np.float32)}} for i in range(3)]
    together = references.update_statistics.exact_gradient(
        dict(zip(settings.OBJECTIVES, kernels, strict=True))
    )
    for i, name in enumerate(settings.OBJECTIVES):
        part = references._of_objective(together, f"{name}/")
        assert list(part.mean) == list(part.images) == ["out"] and part.mean["out"] == i


@pytest.mark.slow
def test_a_run_of_a_network_with_batchnorm(tmp_path):
    """Q-AGREL's mean update is the gradient of its own objective, estimated apart from it."""
    folder = tmp_path / "run"
    arguments = (
        f"{_config(tmp_path, 'conv', None)} --rules q_agrel --stages 0 --batch-sizes 4 "
        f"--images 20 --samples 100 --seeds 1 --out {folder}"
    )
    command.main(arguments.split())
    (line,) = _lines(folder)
    assert line["exact"] is False
    found, errors = (line["batches"]["4"][kind] for kind in ("statistics", "standard_errors"))
    for of_objective in (found, errors):
        assert set(of_objective) == set(settings.OBJECTIVES)
        for layers in of_objective.values():
            assert set(layers) == {ALL, "Conv_0", "Conv_1", "Dense_0", "Dense_1"}
            assert layers[ALL]["variance"] > 0
    angles = {objective: found[objective][ALL]["angle"] for objective in settings.OBJECTIVES}
    assert 0 <= angles["prediction_error"] < 30 < angles["cross_entropy"] < 90
    assert 0.6 < found["prediction_error"][ALL]["norm_ratio"] < 1.4
    assert 0 < errors["cross_entropy"][ALL]["angle"] < 15
    (result,) = json.loads((folder / "summary.json").read_text())["results"]
    assert result["cross_entropy"][ALL]["angle"] == {
        "mean": angles["cross_entropy"],
        "standard_error": errors["cross_entropy"][ALL]["angle"],
    }


def test_a_network_with_dropout_runs_as_in_training(tmp_path):
    """Another key drops other units, and the batch normalizes itself."""
    conv = configs.load(_config(tmp_path, "conv", None))
    network = build.build_network(conv, 10)
    images = 10 * jax.random.uniform(jax.random.key(0), (3, 8, 8, 1))
    variables = jax.jit(network.init)(jax.random.key(1), images)
    params, fixed = variables["params"], {"batch_stats": variables["batch_stats"]}
    problem = SimpleNamespace(dataset=SimpleNamespace(num_classes=10))
    make = batches.forward_of(conv, problem, "tied")

    @jax.jit
    def forward(seed, images):
        state = SimpleNamespace(model_state=fixed)
        return make(state, jax.random.key(seed))(params, images)

    first = forward(2, images)
    np.testing.assert_array_equal(forward(2, images), first)
    assert (forward(3, images) != first).all(1).all()
    # Without biases a brighter batch is the same one, normalized by its own statistics.
    np.testing.assert_allclose(forward(2, 10 * images), first, atol=0.01)


@pytest.mark.parametrize("all_seeds", [True, False])
def test_weights_that_diverge_are_one_line(all_seeds, tmp_path, monkeypatch, capsys):
    def diverge(trainer, run, *_, **__):
        error = fitting.DivergedError(1, 3, 1)
        if all_seeds:
            raise error
        yield run, SimpleNamespace(epoch=1, accuracy=np.zeros(2), diverged=(error,))
        raise AssertionError("a second epoch")

    monkeypatch.setattr(fitting, "fit", diverge)
    arguments = [_config(tmp_path), "--rules", "q_agrel", "--stages", "1", "--images", "50"]
    with pytest.raises(SystemExit) as stop:
        cli.run(command.main, [*arguments, "--out", str(tmp_path / "run")])
    assert stop.value.code == 2
    assert "q_agrel: " in (said := capsys.readouterr().err.splitlines()[-1])
    assert "diverged" in said and said.endswith("try a lower learning rate")


def test_feedback_of_a_config_that_no_rule_is_measured_with_is_refused(tmp_path):
    """Networks were trained with it, and measured with tied feedback."""
    path = Path(_config(tmp_path))
    path.write_text(path.read_text().replace("batch_size", 'feedback="kolen_pollack", batch_size'))
    with pytest.raises(UserError, match="small has kolen_pollack feedback, and a rule is measured"):
        command.main([str(path), "--out", str(tmp_path / "out")])


def test_what_samples_do_not_resolve_is_counted():
    """An angle of 0 is one of 0 or less; None, one that no sample tells."""

    def batch(angle, error):
        layer = dict.fromkeys(statistics_summary.NAMES, 1.0) | {"angle": angle}
        errors = dict.fromkeys(statistics_summary.NAMES, 0.5) | {"angle": error}
        of = {objective: {ALL: layer} for objective in settings.OBJECTIVES}
        of_errors = {objective: {ALL: errors} for objective in settings.OBJECTIVES}
        return {"4": {"statistics": of, "standard_errors": of_errors}}

    line = {"rule": "q_agrel", "weights": "q_agrel", "classes": 3, "stage": 0, "accuracy": 0.5}
    lines = [
        line | {"seed": seed, "exact": False, "batches": batch(*of_seed)}
        for seed, of_seed in enumerate([(0.0, 3.0), (10.0, 4.0), (None, None)])
    ]
    plan = settings.Plan(None, batch_sizes=(4,))
    (entry,) = statistics_summary.summarize(plan, lines)["results"]
    found = entry["cross_entropy"][ALL]
    assert found["angle"] == {
        "mean": 5.0,
        "sd": 7.0711,
        "standard_error": 2.5,
        "seeds": 2,
        "at_limit": 1,
    }
    assert found["variance"] == {"mean": 1.0, "sd": 0.0, "standard_error": 0.28868}


def test_the_picture_by_hand(tmp_path, monkeypatch):
    """Angle against variance, what classes and batches change, layers, alignment by stage."""

    def entry(rule, classes, stage, size, value):
        def layer(base):
            names = ("angle", "variance", "alignment")
            return {n: {"mean": base + more} for more, n in enumerate(names)}

        made = {"rule": rule, "weights": rule, "accuracy": [0.5, 0.75], "seeds": [0, 1]}
        made |= {"classes": classes, "stage": stage, "batch_size": size}
        for number, objective in enumerate(settings.OBJECTIVES):
            base = value + 100 * number
            made[objective] = {ALL: layer(base), "a": layer(base + 3), "b": layer(base + 6)}
        return made

    results = [
        entry("q_agrel", 10, 0, 16, 10.0),
        entry("q_agrel", 10, 5, 16, 20.0),
        entry("q_agrel", 10, 5, 4, 30.0),
        entry("q_agrel", 2, 5, 16, 40.0),
        entry("q_agrel", 2, 5, 4, 50.0),
        entry("backprop", 10, 0, 16, 60.0),
        entry("backprop", 10, 5, 16, 70.0),
    ]
    drawn = []
    monkeypatch.setattr(plots, "save", lambda drawing, path: drawn.append(drawing))
    config = configs.load("digits")
    plan = settings.Plan(
        config, ("q_agrel", "backprop"), stages=(5, 0), classes=(10, 2), batch_sizes=(16, 4)
    )
    statistics_plots.draw(tmp_path / "picture.png", plan, results)
    *planes, by_classes, by_batch, layers, alignment = drawn[0].axes  # two rows of two, one of four
    grid = np.reshape(planes, (2, 2))
    drawn[0].draw_without_rendering()
    for row in (grid[0], grid[1], (by_classes, by_batch, layers, alignment)):
        edges = [axes.get_position() for axes in row]
        assert edges[0].x0 < 0.1 and edges[-1].x1 > 0.95  # each fills the width
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(edges))

    def lines(axes):
        return [line.get_xydata().tolist() for line in axes.lines]

    before, after = grid[0, 0], grid[0, 1]
    assert lines(before)[:2] == [[[11, 10]], [[61, 60]]]
    assert lines(after)[:2] == [[[21, 20]], [[71, 70]]]
    assert lines(grid[1, 1])[:2] == [[[121, 120]], [[171, 170]]]  # of the prediction error
    assert before.get_title() == "0 epochs\nQ-AGREL: accuracy 62 %"
    assert lines(by_classes) == [[[2, 41], [10, 21]], [[10, 71]]]
    assert lines(by_batch) == [[[4, 31], [16, 21]], [[16, 71]]]
    assert lines(layers) == [[[0, 23], [1, 26]], [[0, 73], [1, 76]]]
    # Q-AGREL's objective is the prediction error, backprop's the cross-entropy.
    assert lines(alignment) == [[[0, 112], [1, 122]], [[0, 62], [1, 72]]]


def test_on_average_each_rule_descends_its_objective_on_all_images(tmp_path, monkeypatch):
    """50 images, of which the gradients are taken 20 at a time."""
    monkeypatch.setattr(references, "CHUNK", 20)
    rules = ("agrel", "reinforce")  # which choose by a softmax, whatever the policy
    config = configs.replace(configs.load(_config(tmp_path)), {"seeds": 1})
    plan = settings.Plan(config, rules, stages=(0,), images=50, batch_sizes=(4,))
    problem = stages.make_problem(plan, data.load("digits"), 3)
    network = build.build_network(config, 3)
    inputs = problem.images / 255
    variables = jax.jit(network.init)(jax.random.key(0), inputs[:1])
    state = TrainState(jax.random.key(1), jnp.int32(0), variables["params"], {}, ())
    here = references.References(plan, "q_agrel", problem).at(state)

    def cross_entropy(params):
        logits = network.apply({"params": params}, inputs)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), problem.labels[:, None], 1)
        return -chosen.mean()

    expected = jax.jit(jax.grad(cross_entropy))(state.params)
    for layer, gradient in here.of(4)["cross_entropy"].mean.items():
        np.testing.assert_allclose(gradient, expected[layer]["kernel"], atol=1e-6)
    for rule in rules:
        found = instrument.Instrument(plan, rule, problem).measure(state, 0, here)
        own = found["4"]["statistics"][settings.RULES[rule].objective][ALL]
        assert own["angle"] < 0.1 and own["norm_ratio"] == pytest.approx(1, rel=1e-3), rule


def test_no_fewer_batches_are_sampled_than_were_asked_for():
    asked = {1000: 100, 25: 3, 20: 2, 5: 2}  # of ten groups, each of two at least
    assert {n: settings.Plan(None, samples=n).samples_a_group for n in asked} == asked


def test_own_weights():
    plan = settings.Plan(None, weights="own")
    assert [plan.trainer_of(rule) for rule in plan.rules] == list(settings.RULES)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nosuch"], "unknown config 'nosuch'"),
        (["--rules", "hebb"], "unknown rule 'hebb'; valid: backprop, q_agrel"),
        (["--stages", "-1"], "must be in [0, 1000000], got -1"),
        (["--classes", "11"], "--classes 11: digits has 10"),
        (["--classes", "5,11"], "--classes 11: digits has 10"),
        (["--weights", "x"], "unknown weights 'x'; valid: common, own"),
        (["--resume"], "--resume needs --out"),
        (["--rules", "q_agrel", "--samples", "99"], "--samples does nothing where every action"),
    ],
)
def test_bad_input_is_one_line(arguments, says, tmp_path, capsys):
    out = [] if arguments == ["--resume"] else ["--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        cli.run(command.main, [*arguments, *out])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert says in message.splitlines()[-1]
    assert not (tmp_path / "out").exists()
