"""``python -m experiments.benchmark``: its arithmetic by hand, its shapes, its command."""

import json
import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments import plots
from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import cells as benchmark_cells
from experiments.benchmark import measure as benchmark_measure
from experiments.benchmark import plots as benchmark_plots
from experiments.benchmark import pytorch as torch_side
from experiments.benchmark import roofline as benchmark_roofline
from experiments.benchmark import summary as benchmark_summary
from experiments.benchmark import timing as benchmark_timing
from experiments.common import cli
from experiments.reports import speed
from qagrel_jax.networks import make_network
from tests.experiments import running

SUBJECTS = {
    "q_agrel": {"seconds_per_step": [2.0, 4.0, 8.0], "images_per_step": 10},
    "backprop": {"seconds_per_step": [1.0, 4.0, 16.0]},
    "q_agrel_10_seeds": {"seconds_per_step": [16.0, 36.0, 80.0]},
    "q_agrel_2_seeds": {"seconds_per_step": [4.0, 4.0, 16.0]},
    "q_agrel_seeds_on_cores": {"seconds_per_step": [2.0, 8.0, 8.0], "images_per_step": 20},
    "q_agrel_batch_on_cores": {"seconds_per_step": [1.0, 3.0, 8.0], "images_per_step": 10},
    "torch_q_agrel": {"seconds_per_step": [6.0, 4.0, 16.0]},
    "torch_compiled_q_agrel": {"seconds_per_step": [3.0, 2.0, 8.0]},
    "roofline": {"seconds_per_step": [1.0, 3.0, 2.0]},
}


def test_ratios_are_medians_of_ratios_within_rounds():
    ratios = benchmark_summary.cell_ratios(SUBJECTS)
    assert ratios["q_agrel_over_backprop"].median == 1.0  # of 2, 1, 1/2
    assert ratios["vs_torch"].median == 2.0  # of 3, 1, 2: we are twice as fast
    assert ratios["vs_torch_compiled"].median == 1.0
    assert ratios["vs_torch_backprop"] is ratios["vs_torch_compiled_backprop"] is None
    assert ratios["roofline_fraction"].median == 0.5  # of 1/2, 3/4, 1/4
    scaling = benchmark_summary.seeds_scaling(SUBJECTS)
    assert list(scaling) == [1, 2, 10]
    assert [s.median for s in scaling.values()] == [1.0, 2.0, 9.0]
    assert ratios["seeds_on_cores"].median == 2.0  # of 2, 1, 2: two seeds a step
    assert ratios["batch_on_cores"].median == pytest.approx(4 / 3)  # of 2, 4/3, 1
    assert ratios["vs_torch_batch_on_cores"].median == 2.0  # of 6, 4/3, 2
    torch = {
        "torch_backprop": {"seconds_per_step": [3.0, 8.0, 8.0]},
        "torch_compiled_backprop": {"seconds_per_step": [5.0, 4.0, 32.0]},
    }
    ratios = benchmark_summary.cell_ratios(SUBJECTS | torch)
    assert ratios["vs_torch_backprop"].median == 2.0  # of 3, 2, 1/2
    assert ratios["vs_torch_compiled_backprop"].median == 2.0  # of 5, 1, 2
    alone = benchmark_summary.cell_ratios({"q_agrel": SUBJECTS["q_agrel"]})
    assert alone["seeds_on_cores"] is alone["batch_on_cores"] is None


def test_speeds_are_of_all_seeds_of_a_step():
    """Two seeds do twice the work of ``flop_per_step``; the slowest round is the lowest speed."""
    subjects = {
        name: {"seconds_per_step": [1.0, 2.0, 4.0], "images_per_step": images}
        for name, images in (("q_agrel", 10), ("q_agrel_2_seeds", 20), ("backprop", 10))
    }
    cell = {"subjects": subjects, "flop_per_step": 8e9, "batch_size": 10, "profile": None}
    content = benchmark_summary.summarize({"net": cell}, {}, {})
    one, two = (content["cells"]["net"]["subjects"][n] for n in ("q_agrel", "q_agrel_2_seeds"))
    assert (one["images_per_second"], two["images_per_second"]) == (5.0, 10.0)
    assert (one["gflop_per_second"], two["gflop_per_second"]) == (4.0, 8.0)
    # The quartiles of 1, 2, 4 seconds are 1.5 and 3.
    np.testing.assert_allclose(two["images_per_second_quartiles"], [20 / 3, 20 / 1.5])


def test_what_a_program_needs_counts_shared_memory_once():
    sizes = {"argument": 10, "output": 5, "alias": 4, "temp": 3}
    analysis = SimpleNamespace(**{f"{name}_size_in_bytes": n for name, n in sizes.items()})
    compiled = SimpleNamespace(memory_analysis=lambda: analysis)
    assert benchmark_cells.program_bytes(compiled) == 14


def test_pictures_of_speed_by_hand(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "save", lambda drawing, path: drawn.append(drawing))
    speeds = {"images_per_second": 50.0, "images_per_second_quartiles": [40.0, 80.0]}
    content = {
        "device": "abacus",
        "settings": {"precision": "float32"},
        "cells": {"net": {"subjects": {"q_agrel": speeds}}},
        "seeds_scaling": {"net": {"1": 1.0, "10": 5.0}},
        "time_shares": {"net": {"products": 0.75, "Dropout": 0.25}},
    }
    benchmark_plots.draw(content, tmp_path / "speed.png")
    left, right = drawn[0].axes
    ((points, _, (spread,)),) = left.containers
    assert points.get_xydata().tolist() == [[50, 0]]
    assert spread.get_segments()[0].tolist() == [[40, 0], [80, 0]]
    assert right.lines[1].get_xydata().tolist() == [[1, 1], [10, 0.5]]  # time per seed
    benchmark_plots.draw_time_shares(content, tmp_path / "shares.png")
    bars = [(bar.get_x(), bar.get_width()) for bar in drawn[1].axes[0].patches]
    assert bars == [(0, 75), (75, 25)]


def test_every_round_times_every_subject_once_in_a_rotating_order(monkeypatch):
    log, clock = [], [0.0]
    monkeypatch.setattr(benchmark_timing.time, "sleep", lambda s: None)
    monkeypatch.setattr(benchmark_timing.time, "perf_counter", lambda: clock[0])

    def subject(name, seconds, steps):
        def call():
            log.append(name)
            clock[0] += seconds

        return benchmark_timing.Subject(name, steps, call, images_per_step=1)

    subjects = [subject("a", 1.0, 2), subject("b", 3.0, 1)]
    assert [benchmark_timing.warm_up(s, 2.0) for s in subjects] == [2, 1]
    log.clear()
    seconds = benchmark_timing.interleave(subjects, [2, 1], 3)
    assert seconds == {"a": [0.5] * 3, "b": [3.0] * 3}
    assert "".join(log) == "aab" + "baa" + "aab"


def test_floating_point_operations_by_hand():
    def flop(architecture, image_shape, batch):
        layers = benchmark_roofline.network_layers(
            make_network(architecture, 10), image_shape, batch
        )
        return [layer.flop(first=i == 0) for i, layer in enumerate(layers)]

    sizes = [(784, 1500), (1500, 1000), (1000, 500), (500, 10)]
    products = [2, 3, 3, 3]
    assert flop("dense", (28, 28, 1), 128) == [
        p * 2 * 128 * k * n for p, (k, n) in zip(products, sizes, strict=True)
    ]
    assert flop("conv", (32, 32, 3), 4) == [
        2 * 2 * (4 * 32 * 32) * 27 * 32,
        3 * 2 * (4 * 16 * 16) * 288 * 32,
        3 * 2 * 4 * (16 * 16 * 32) * 500,
        3 * 2 * 4 * 500 * 10,
    ]
    assert flop("locally_connected", (32, 32, 3), 4)[:2] == [
        2 * 2 * (4 * 30 * 30) * 27 * 32,
        3 * 2 * (4 * 14 * 14) * 288 * 32,
    ]


@pytest.mark.parametrize("architecture", ["conv", "locally_connected"])
def test_every_way_to_a_product_costs_the_same(architecture):
    layers = benchmark_roofline.network_layers(make_network(architecture, 10), (8, 8, 2), 3)
    found = benchmark_roofline.products(layers, native=False)
    expected = []
    for index, layer in enumerate(layers):
        positions = math.prod(layer.outputs[1:3]) if layer.kind == "locally_connected" else 1
        expected += [(positions, math.prod(layer.mkn()))] * (2 if index == 0 else 3)
    for (positions, multiplications), variants in zip(expected, found, strict=True):
        for variant in variants:
            result = math.prod(_shape(variant))
            both = math.prod(variant.left) * math.prod(variant.right)
            inner = math.sqrt(both / result / positions)
            assert result * inner == pytest.approx(positions * multiplications)


def test_native_products_are_the_convolutions_and_its_transposes():
    layers = benchmark_roofline.network_layers(make_network("conv", 10), (7, 8, 2), 3)
    found = benchmark_roofline.products(layers, native=True)
    first, second = layers[:2]
    shapes = [_shape(variants[0]) for variants in found[:5]]
    assert shapes == [first.outputs, first.kernel, second.outputs, second.inputs, second.kernel]


def test_the_bare_products_run():
    layers = benchmark_roofline.network_layers(make_network("dense", 3, hidden=(5,)), (4, 4, 1), 2)
    subject = benchmark_roofline.subject(layers, steps=2)
    subject.call()
    assert (subject.steps, subject.images_per_step) == (2, 2)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "benchmark"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_side, "importable", lambda: False)
        benchmark.main(
            [
                "--cells",
                "digits",
                "--seeds",
                "2",
                "--repeats",
                "2",
                "--seconds",
                "0.001",
                "--out",
                str(folder),
            ]
        )
    return folder


def test_the_command_leaves_every_ratio(measured):
    content = json.loads((measured / "benchmark.json").read_text())
    assert {"device", "versions", "commit", "command", "settings"} <= content.keys()
    assert content["q_agrel_over_backprop"]["digits"] > 0
    assert content["vs_torch"] == content["vs_torch_compiled"] == {"digits": None}
    assert content["roofline_fraction"]["digits"] > 0
    assert content["seeds_scaling"]["digits"].keys() == {"1", "2"}
    assert content["seeds_scaling"]["digits"]["1"] == 1
    subjects = content["cells"]["digits"]["subjects"]
    assert list(subjects) == ["q_agrel", "backprop", "q_agrel_2_seeds", "roofline"]
    for subject in subjects.values():
        assert len(subject["seconds_per_step"]) == 2
        assert subject["images_per_second"] > 0
    parameters = 4 * (64 * 300 + 300 * 200 + 200 * 100 + 100 * 10)
    assert subjects["q_agrel"]["program_bytes"] > 2048 * 64 + parameters
    assert subjects["q_agrel_2_seeds"]["images_per_step"] == 32
    shares = content["time_shares"]["digits"]
    assert sum(shares.values()) == pytest.approx(1)
    assert {"products", "choice, reward, weight changes"} <= shares.keys()
    for picture in ("benchmark.png", "time_shares.png"):
        assert (measured / picture).read_bytes().startswith(b"\x89PNG")
    assert list((measured / "traces" / "digits").glob("**/*.xplane.pb"))


def test_an_interruption_keeps_the_networks_that_were_measured(measured, tmp_path, monkeypatch):
    found = json.loads((measured / "benchmark.json").read_text())["cells"]["digits"]

    def measure(name, settings, torch_device, folder):
        (folder / "traces" / name).mkdir(parents=True)
        if name != "digits":
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(benchmark_measure, "measure", measure)
    monkeypatch.setattr(torch_side, "importable", lambda: False)
    out = tmp_path / "out"
    result = running.run(benchmark.main, "--cells", "digits,conv", "--out", out)
    said = f"interrupted; what was done is in {out / 'benchmark.json'}"
    assert result.stderr.splitlines()[-1] == said
    content = json.loads((out / "benchmark.json").read_text())
    assert list(content["cells"]) == ["digits"]
    assert content["settings"]["not_measured"] == ["conv"]
    assert (out / "benchmark.png").is_file()
    result = running.run(benchmark.main, "--cells", "conv", "--out", tmp_path / "none")
    assert result.stderr.splitlines()[-1] == "interrupted; nothing was written"
    assert not (tmp_path / "none").exists()


def test_the_report_reads_it(measured, tmp_path):
    assert "not run" in speed.section(tmp_path)
    text = speed.section(measured.parent)
    assert "| digits (8×8×1, 16) |" in text
    assert "![Training speed](benchmark.png)" in text
    assert "without PyTorch" in text
    assert "(time_shares.png)" in text


def test_aims_met_missed_and_not_run():
    content = {
        "device": "cpu (2 cores, x86_64)",
        "cells": {"dense": {}, "deep": {}},
        "q_agrel_over_backprop": {"dense": 1.04, "deep": 1.06},
        "vs_torch": {"dense": 1.24, "deep": None},
        "vs_torch_batch_on_cores": {"dense": 1.25, "deep": None},
        "roofline_fraction": {"dense": 0.86, "deep": 0.4},
        "seeds_scaling": {"dense": {"1": 1.0, "10": 9.9}, "deep": {"1": 1.0}},
    }
    verdicts = [verdict for *_, verdict in speed.aims(content)]
    assert verdicts == [True, False, True, True, True, False, None, None]
    on_accelerator = speed.aims(content | {"device": "NVIDIA H100"})
    assert [v for *_, v in on_accelerator] == [True, False, False, False]


BAD = {
    "cell": (["--cells", "dense,huge"], "unknown cell 'huge'; valid: dense, conv"),
    "seeds": (["--seeds", "0"], "must be in [1"),
    "not a number": (["--seeds", "1,many"], "'many' is not a whole number"),
    "repeats": (["--repeats", "0"], "must be in [1"),
    "precision": (["--precision", "float8"], "valid: float32, tensorfloat32, bfloat16"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name, capsys, tmp_path):
    arguments, message = BAD[name]
    _refused([*arguments, "--out", str(tmp_path / "out")], message, capsys)
    assert not (tmp_path / "out").exists()


def test_an_older_benchmark_is_not_overwritten(measured, capsys):
    _refused(
        ["--out", str(measured)], "holds another run or other files: choose another --out", capsys
    )


def _refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.run(benchmark.main, arguments)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def _shape(variant):
    left, right = (jax.ShapeDtypeStruct(s, np.float32) for s in (variant.left, variant.right))
    return jax.eval_shape(variant.product, left, right).shape
