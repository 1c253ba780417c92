"""What pictures show: legends beside the curves, ticks, limits, names and colors."""

import json

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments import plots
from experiments.agrel import plots as agrel_plots
from experiments.controls import plots as controls_plots
from experiments.controls.settings import Control
from experiments.curve_tracing import plots as curve_plots
from experiments.feedback import plots as feedback_plots
from experiments.feedback import summary as feedback_summary
from experiments.update_statistics import plots as statistics_plots
from experiments.update_statistics import settings as statistics_settings
from experiments.working_memory import activity as memory_activity
from experiments.working_memory import plots as memory_plots
from qagrel_jax.population.recording import Recording
from qagrel_jax.rules import RULES
from qagrel_jax.tasks import base, make_task
from tests.experiments.test_report import write_run


@pytest.fixture
def drawn(monkeypatch):
    """The pictures, as matplotlib has placed everything in them."""
    pictures = []

    def keep(drawing, path):
        FigureCanvasAgg(drawing).draw()
        pictures.append(drawing)

    monkeypatch.setattr(plots, "save", keep)
    return pictures


def covers_a_curve(legend, axes):
    box = legend.get_window_extent()
    lines = [line.get_transform().transform_path(line.get_path()) for line in axes.lines]
    return any(line.intersects_bbox(box, filled=False) for line in lines)


def none_is_covered(drawing):
    legends = [*drawing.legends, *(axes.get_legend() for axes in drawing.axes)]
    shown = [legend for legend in legends if legend]
    assert shown
    return not any(covers_a_curve(legend, axes) for legend in shown for axes in drawing.axes)


@pytest.mark.parametrize("accuracy", [0.1, 0.9])
def test_legends_of_learning_curves_cover_none(accuracy, tmp_path, drawn):
    """Curves that stay high, and curves that stay low."""
    flat = [[accuracy] * 3] * 20
    plots.learning_curves(write_run(tmp_path / "run", q_agrel=flat, backprop=flat))
    curves = {rule: np.array(flat) for rule in ("q_agrel", "backprop")}
    plots.panels_of_curves(tmp_path / "panels.png", [("one", curves, 50.0)])
    assert all(none_is_covered(drawing) for drawing in drawn)


def control_line(rule="q_agrel", label=None, accuracy=0.1, epochs=20, **fields):
    curve = [[accuracy] * 2] * epochs
    label = label or rule
    return {
        "label": label,
        "family": label,
        "rule": rule,
        "classes": 10,
        "x": 1,
        "config": {"batch_size": 1, "dataset": "digits", "architecture": "dense", "epochs": epochs},
        "seeds": [0, 1],
        "diverged": None,
        "validation_accuracy": curve,
        "best_validation_accuracy": curve[0],
        "images_an_epoch": 100,
        "active_classes": [[2, 2]] * epochs,
        "class_accuracy": [[accuracy] * 10] * epochs,
        **fields,
    }


@pytest.mark.parametrize("accuracy", [0.0, 0.1, 0.9])
def test_active_classes_are_a_line_over_the_map_of_classes(accuracy, tmp_path, drawn):
    """Below the line the classes that are shown: of ten, three end at 2.5. No legend covers it."""
    line = control_line(accuracy=accuracy)
    line["active_classes"] = [[3, 3], *line["active_classes"][1:]]
    controls_plots.draw(tmp_path / "p.png", Control("?", (), picture="discovery"), [line] * 3)
    left, right = drawn[0].axes[:2]
    (active,) = right.lines
    assert active.get_ydata()[0] == 2.5 and len(right.images) == 1
    assert not any(axes.get_legend() for axes in drawn[0].axes)
    assert left.get_ylim()[1] >= max(left.lines[0].get_ydata())


def test_the_legend_of_activity_along_a_curve_covers_none(tmp_path, drawn):
    image, maps = np.ones((6, 6, 4)), np.ones((10, 6, 6))
    along = np.random.default_rng(0).uniform(size=(2, 2, 10, 9))
    curve_plots.activity(tmp_path / "p.png", (image, maps, "network 0"), along)
    (axes,) = [axes for axes in drawn[0].axes if axes.get_legend()]
    assert not covers_a_curve(axes.get_legend(), axes)


def memory_grid(trials, feedbacks=("tied", "kolen_pollack"), rates=(0.1, 0.2), decays=(0.0, 0.5)):
    """The summary of two networks a setting."""
    cells = [
        {"feedback": feedback, "learning_rate": rate, "tag_decay": decay}
        for feedback in feedbacks
        for rate in rates
        for decay in decays
    ]
    found = trials is not None
    cells = [cell | {"converged_fraction": float(found), "median_trials": trials} for cell in cells]
    config = {"feedbacks": feedbacks, "learning_rates": rates, "tag_decays": decays, "networks": 2}
    return {
        "task": "saccade",
        "networks": 2 * len(cells),
        "config": config,
        "grid": cells,
        "trials": [trials] * 2 * len(cells),
        "max_trials": 100,
        "median_trials": trials,
    }


@pytest.mark.parametrize("trials", [None, 50])
@pytest.mark.parametrize("rates", [(0.1,), (0.1, 0.2)])
def test_the_legend_of_convergence_covers_no_curve(trials, rates, tmp_path, drawn):
    memory_plots.converged(tmp_path / "p.png", memory_grid(trials, rates=rates))
    assert none_is_covered(drawn[0])
    assert len(drawn[0].legends[0].get_texts()) == 4


@pytest.mark.parametrize("feedbacks", [("tied",), ("tied", "kolen_pollack")])
@pytest.mark.parametrize("decays", [(0.0, 0.2, 0.5, 0.8), (0.0125, 0.12345, 0.23456)])
@pytest.mark.parametrize("rates", [(0.15,), (0.05, 0.15, 0.3, 0.6), (0.01234, 0.12345)])
def test_the_legend_of_convergence_lies_within_the_picture(
    feedbacks, decays, rates, tmp_path, drawn
):
    summary = memory_grid(50, feedbacks, rates, decays)
    memory_plots.converged(tmp_path / "p.png", summary)
    box, whole = drawn[0].legends[0].get_window_extent(), drawn[0].bbox
    assert whole.x0 <= box.x0 and box.x1 <= whole.x1
    assert whole.y0 <= box.y0 and box.y1 <= whole.y1


def shown_ranges(axes):
    """The lowest and highest value of each range that can be seen."""
    for drawn in axes.collections:
        extents = drawn.get_paths()[0].get_extents()
        if extents.width > 0 or drawn.get_linewidth()[0] > 0:
            yield extents.y0, extents.y1


@pytest.mark.parametrize("points", [1, 2])
def test_a_range_shows_however_many_points_it_has(points, tmp_path, drawn):
    axes = Figure().subplots()
    plots.band(axes, np.arange(points), np.array([[1.0, 3.0, 7.0]] * points), 0, "?")
    assert list(shown_ranges(axes)) == [(1, 7)]
    pieces = [{"trials": trials, "seconds": 1} for trials in (1, 3, 7)]
    measured = {"pieces": pieces, "trials_per_second": 3}
    rows = [{"networks": 1 + n, "qagrel_jax": measured, "numpy": measured} for n in range(points)]
    content = {"rows": rows, "task": "saccade", "device": "abacus"}
    memory_plots.speed(tmp_path / "p.png", content)
    assert list(shown_ranges(drawn[0].axes[0])) == [(1, 7), (1, 7)]


def a_recording(task, correct=True, steps=5, **units):
    return Recording(
        phase=np.array([0, 0, base.HOLD, base.HOLD, base.GO])[:steps],
        clock=np.arange(steps),
        observation=np.zeros((steps, task.inputs)),
        units=units,
        q_values=np.zeros((steps, task.actions)),
        action=np.zeros(steps, int),
        reward=np.zeros(steps),
        correct=correct,
    )


@pytest.mark.parametrize(("correct", "said"), [(True, "correct"), (False, "not correct")])
def test_a_trial_without_a_response_is_not_said_to_have_one(correct, said, tmp_path, drawn):
    task = make_task("saccade")
    trials = {"pro left": a_recording(task, correct, memory=np.zeros((5, 2)))}
    memory_activity.draw(tmp_path / "p.png", "?", task, {"memory": "memory units"}, trials)
    assert drawn[0].axes[0].get_title() == f"pro left\n({said})"


@pytest.mark.parametrize("many", ["regular", "memory"])
def test_units_too_many_for_a_line_each_have_a_row_each(many, tmp_path, drawn):
    task, few = make_task("saccade"), len(plots.LINES)
    sizes = {"regular": few, "memory": few} | {many: 12}
    values = {name: np.arange(5 * n).reshape(5, n) / (5 * n) for name, n in sizes.items()}
    units = {"regular": "regular units", "memory": "memory units"}
    trials = {"pro left": a_recording(task, **values), "pro right": a_recording(task, **values)}
    memory_activity.draw(tmp_path / "p.png", "?", task, units, trials)
    axes = np.reshape(drawn[0].axes[:8], (4, 2))
    for row, name in enumerate(units, 1):
        for one in axes[row]:
            if name == many:
                (picture,) = one.images
                np.testing.assert_array_equal(picture.get_array(), values[name].T)
                assert picture.get_clim() == (0, values[name].max())
            else:
                lines = [line for line in one.lines if len(line.get_xdata()) == 5]
                drawn_values = np.array([line.get_ydata() for line in lines])
                np.testing.assert_array_equal(drawn_values, values[name].T)
    letter = many[0].upper()
    ticks = axes[1 + (many == "memory"), 0].get_yticklabels()
    assert [tick.get_text() for tick in ticks] == [f"{letter}{n}" for n in (1, 5, 10)]
    words = {text.get_text() for one in axes[1] for text in one.texts}
    assert words == {"stimuli, delay", "go: mark off"}
    boxes = [text.get_window_extent() for text in axes[1, 0].texts]
    assert not boxes[0].overlaps(boxes[1])
    inside = axes[1, 0].get_window_extent()
    assert [box.overlaps(inside) for box in boxes] == [many != "regular"] * 2


def test_images_of_ones_own_are_called_by_their_files_name(tmp_path, drawn):
    own = str(tmp_path / "a" / "long" / "way" / "birds.npz")
    folder = write_run(tmp_path / "run", dataset=own)
    known = {"class_accuracy": [0.5] * 3, "update_angle_degrees": {"Dense_0": [30, 10, 20]}}
    path = folder / "metrics.jsonl"
    lines = [json.loads(line) | known for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    plots.of_run(folder)
    line = control_line()
    line["config"]["dataset"] = own
    controls_plots.draw(tmp_path / "p.png", Control("?", ()), [line])
    assert len(drawn) == 4
    for drawing in drawn:
        assert "birds, " in drawing.get_suptitle()
        assert ".npz" not in drawing.get_suptitle() and "/" not in drawing.get_suptitle()
    config = {"dataset": own, "architecture": "dense", "hidden": None}
    result = {"config": config, "rule": "q_agrel", "epochs": 1, "seeds": [0]}
    assert feedback_summary.title([result]).startswith("birds, ")


def ticks(axis):
    low, high = sorted(axis.get_view_interval())
    return [place for place in axis.get_majorticklocs() if low <= place <= high]


def are_whole(*several):
    """Whether there are ticks on each axis, all of them at whole numbers."""
    places = list(map(ticks, several))
    return all(places) and all(place == round(place) for of_axis in places for place in of_axis)


@pytest.mark.parametrize("span", [(1, 1), (1, 2), (3, 7), (1, 400)])
def test_whole_numbers(span):
    axes = Figure().subplots()
    axes.plot(span, span)
    plots.whole_numbers(axes.xaxis)
    assert are_whole(axes.xaxis)


def test_epochs_and_classes_are_whole(tmp_path, drawn):
    few = [[1.0, 0.0, 1.0]]
    plots.learning_curves(write_run(tmp_path / "run", q_agrel=few, backprop=few))
    controls_plots.draw(tmp_path / "p.png", Control("?", ()), [control_line(epochs=1)])
    (left, right), (curves,) = (drawing.axes for drawing in drawn)
    assert are_whole(left.xaxis, right.xaxis, right.yaxis, curves.xaxis)
    assert ticks(right.yaxis) == [0, 1]


def curve_content(lengths=(2,), max_length=3, beyond=4):
    return {
        "networks": 1,
        "converged": 1,
        "all_right": {"converged": 0},
        "max_length": max_length,
        "trials_by_length": {str(n): [30.0] for n in lengths},
        "accuracy": {str(n): [0.0] for n in range(3, max_length + beyond + 1)},
        "config": {"accuracy": 0.85, "test_trials": 4, "seed": 0},
    }


@pytest.mark.parametrize("beyond", [0, 1, 4])
def test_pixels_are_whole(beyond, tmp_path, drawn):
    tests = [{"learning": [True], "trials": 30, "accuracy": [0.5]}]
    curve_plots.learning(tmp_path / "p.png", curve_content(beyond=beyond), tests)
    curve_plots.generalization(tmp_path / "p.png", curve_content(beyond=beyond))
    (lengths, trials), (tested,) = (drawing.axes for drawing in drawn)
    assert are_whole(lengths.xaxis, lengths.yaxis, trials.xaxis, tested.xaxis)


@pytest.mark.parametrize(("angle", "last"), [(0, 90), (20, 90), (130, 120), (180, 180)])
def test_every_angle_is_within_the_axes(angle, last, tmp_path, drawn):
    """In whichever panel it is; a curve at 0 does not lie on the axis."""
    layers = {"a": [[angle] * 2] * 3, "b": [[20] * 2] * 3}
    angles = {"update_angle_degrees": layers, "feedback_angle_degrees": layers}
    controls_plots._angles(tmp_path / "p.png", [control_line(**angles)])
    result = {"kind": "random", "rule": "q_agrel", "angles_by_epoch": angles, "epochs": 3}
    result |= {"seeds": [0, 1], "config": {"dataset": "m", "architecture": "n", "hidden": None}}
    feedback_plots._angles(tmp_path / "p.png", [result])
    with plots.figure(tmp_path / "p.png", ncols=2, sharey=True) as (_, panels):
        for axes, layer in zip(panels, ("b", "a"), strict=True):
            plots.layer_angles(axes, np.arange(1, 4), {layer: np.array(layers[layer], float)})
    for axes in [axes for drawing in drawn for axes in drawing.axes]:
        low, high = axes.get_ylim()
        assert low < 0 and high > angle and ticks(axes.yaxis) == list(range(0, last + 1, 30))


def color_bars(drawing):
    return [axes for axes in drawing.axes if axes.get_label() == "<colorbar>"]


def test_medians_of_none_have_no_color_bar(tmp_path, drawn):
    memory_plots.grid(tmp_path / "p.png", memory_grid(None))
    assert len(color_bars(drawn[0])) == 2  # of the fractions
    memory_plots.grid(tmp_path / "p.png", memory_grid(40))
    median = color_bars(drawn[1])[-1]
    assert len(color_bars(drawn[1])) == 4 and median.get_ylim() == (0, 40)


@pytest.mark.parametrize("decays", [(0.0,), (0.0, 0.5), (0.0, 0.2, 0.5, 0.8)])
def test_titles_of_a_grid_leave_room_for_the_color_bars(decays, tmp_path, drawn):
    memory_plots.grid(tmp_path / "p.png", memory_grid(12345, decays=decays))
    panels = [axes for axes in drawn[0].axes if axes not in color_bars(drawn[0])]
    renderer = drawn[0].canvas.get_renderer()
    for axes in panels:
        title = axes.title.get_window_extent()
        for bar in color_bars(drawn[0]):
            assert not title.overlaps(bar.get_tightbbox(renderer))
        assert not any(title.overlaps(x.title.get_window_extent()) for x in panels if x is not axes)
    assert panels[2].get_title() == "Kolen–Pollack:\nfraction converged"
    assert drawn[0].get_suptitle().startswith("saccade, tied and Kolen–Pollack feedback")


def test_curves_at_0_do_not_lie_on_the_axis(tmp_path, drawn):
    none = [[0.0] * 3] * 2
    plots.learning_curves(write_run(tmp_path / "run", q_agrel=none, backprop=none))
    for picture in ("curves", "discovery"):
        control = Control("?", (), picture=picture)
        controls_plots.draw(tmp_path / "p.png", control, [control_line(accuracy=0.0)])
    curve_plots.generalization(tmp_path / "p.png", curve_content())
    memory_plots.converged(tmp_path / "p.png", memory_grid(None))
    assert len(drawn) == 5
    panels = [drawn[0].axes[1], *(drawing.axes[0] for drawing in drawn[1:])]
    for axes in panels:
        low, high = axes.get_ylim()
        assert low <= -0.01 * high
        assert 0 in axes.lines[0].get_ydata()


@pytest.mark.parametrize("longest", [3, 9])
def test_the_lengths_trained_are_gray(longest, tmp_path, drawn):
    curve_plots.generalization(tmp_path / "p.png", curve_content(max_length=longest))
    (span,) = drawn[0].axes[0].patches
    assert (span.get_x(), span.get_x() + span.get_width()) == (2.5, longest + 0.5)


def test_axes_of_speed_bear_plain_numbers(tmp_path, drawn):
    def measured(rate):
        pieces = [{"trials": rate * seconds, "seconds": seconds} for seconds in (1, 2)]
        return {"pieces": pieces, "trials_per_second": rate}

    rows = [{"networks": n, "qagrel_jax": measured(5e5 * n), "numpy": measured(9)} for n in (2, 4)]
    content = {"rows": rows, "task": "saccade", "device": "abacus"}
    memory_plots.speed(tmp_path / "p.png", content)
    (axes,) = drawn[0].axes
    assert [label.get_text() for label in axes.get_xticklabels(which="both")] == ["2", "4"]
    rates = {label.get_text() for label in axes.get_yticklabels(which="both")} - {""}
    assert {"100", "1,000,000"} <= rates and not any("$" in rate for rate in rates)


def test_an_error_rate_of_0_is_not_called_001(tmp_path, drawn):
    none = [[0.5] * 3, [1.0] * 3]
    plots.learning_curves(write_run(tmp_path / "run", q_agrel=none, backprop=none))
    (left, _) = drawn[0].axes
    low, high = left.get_ylim()
    labels = [(label.get_position()[1], label.get_text()) for label in left.get_yticklabels()]
    names = [name for place, name in labels if low <= place <= high and name]
    assert names[0] == "≤ 0.01" and names[-1] == "50"
    assert left.lines[0].get_ydata()[-1] == pytest.approx(0.01)


def test_every_rule_has_a_look_of_its_own():
    assert {*RULES, *statistics_settings.RULES} == set(plots.RULES)
    looks = {str(plots.color_and_line(plots.rule_index(rule))) for rule in plots.RULES}
    assert len(looks) == len(plots.RULES)


def colors(axes):
    """The color of each line that has a name."""
    named = {line.get_label(): line.get_color() for line in axes.lines}
    return {name: color for name, color in named.items() if not name.startswith("_")}


def test_a_rule_has_one_color_in_every_picture(tmp_path, drawn):
    blue, orange, green, pink = plots.COLORS[:4]
    plots.learning_curves(write_run(tmp_path / "run", q_agrel=[], finished=False))
    assert colors(drawn[-1].axes[0]) == {"backprop": orange}
    accuracy = {rule: np.full((2, 1), 0.5) for rule in ("reinforce", "backprop")}
    plots.panels_of_curves(tmp_path / "p.png", [("one", accuracy, None)])
    assert colors(drawn[-1].axes[0]) == {"REINFORCE": pink, "backprop": orange}
    rows = [{"task": "xor", "rule": rule, "trials": [3]} for rule in ("backprop", "agrel")]
    rows = [row | {"networks": 1, "max_trials": 9, "criterion": 0.9} for row in rows]
    agrel_plots.trials_to_criterion(tmp_path / "p.png", rows)
    assert colors(drawn[-1].axes[0]) == {"backprop": orange, "AGREL": green}
    lines = [control_line("backprop"), control_line("agrel"), control_line("q_agrel")]
    again = control_line("backprop", "backprop again")
    controls_plots.draw(tmp_path / "p.png", Control("?", ()), [*lines, again])
    four = {"backprop": orange, "agrel": green, "q_agrel": blue, "backprop again": pink}
    shown = colors(drawn[-1].axes[0])
    assert shown == {controls_plots.shown(name): color for name, color in four.items()}
    for rule, color in four.items():
        if rule in plots.RULES:
            assert statistics_plots._style(rule)["color"] == color


def test_rows_of_controls_have_their_rules_colors(tmp_path, drawn):
    lines = [control_line("broadcast"), control_line("backprop")]
    for picture in ("dots", "discovery"):
        controls_plots.draw(tmp_path / "p.png", Control("?", (), picture=picture), lines)
    dots, discovery = drawn
    expected = [plots.COLORS[plots.rule_index(rule)] for rule in ("broadcast", "backprop")]
    assert [line.get_color() for line in dots.axes[0].lines[::2]] == expected
    assert [axes.lines[0].get_color() for axes in discovery.axes[:4:2]] == expected
