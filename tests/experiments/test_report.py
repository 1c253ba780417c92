"""The report against numbers worked out by hand, on results made up for it."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from experiments import config as configs
from experiments import plots, report, reports
from experiments.common.cli import UserError
from experiments.common.significance import paired_difference, ratio_interval, signed_rank_test
from experiments.config import Config
from experiments.reports import runs, variants
from experiments.train import results as run_results

ROOT = Path(__file__).resolve().parents[2]
# Accuracies by epoch of three seeds. Backprop's best: .9, 1, .8, mean .9, so that 95 % is .855,
# 98 % is .882 and 99 % is .891.
Q_AGREL = [[0.1, 0.2, 0.3], [0.5, 0.86, 0.3], [0.89, 0.9, 0.86], [0.88, 0.9, 0.9]]
BACKPROP = [[0.6, 0.9, 0.7], [0.9, 1.0, 0.8]]
ENVIRONMENT = {"device": "abacus", "versions": {}, "commit": "0123456789", "command": "do it"}


def write_run(folder, seeds=3, finished=True, q_agrel=Q_AGREL, backprop=BACKPROP, **fields):
    folder.mkdir(parents=True)
    config = Config(
        **{
            "name": "mnist_conv",
            "dataset": "mnist",
            "architecture": "conv",
            "protocol": "paper",
            "seeds": seeds,
            **fields,
        }
    )
    (folder / "config.json").write_text(json.dumps(configs.to_json(config)))
    lines = [
        {"rule": rule, "epoch": epoch, "test_accuracy": row[:seeds], "classes_learned": row[:seeds]}
        for rule, rows in (("q_agrel", q_agrel), ("backprop", backprop))
        for epoch, row in enumerate(rows, 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "environments.jsonl").write_text(json.dumps(ENVIRONMENT) + "\n")
    if finished:
        results = [
            {"rule": rule, "test_accuracy": np.max(rows, axis=0)[:seeds].tolist()}
            for rule, rows in (("q_agrel", q_agrel), ("backprop", backprop))
        ]
        (folder / "summary.json").write_text(json.dumps({"results": results}))
    return folder


def row(text, *begin):
    """Return the cells of the table's row that begins with ``begin``."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    (found,) = [cells for cells in rows if tuple(cells[: len(begin)]) == begin]
    return found[len(begin) :]


def test_a_finished_cell(tmp_path):
    write_run(tmp_path / "cells" / "mnist_conv" / "paper")
    text = reports.section("cells", tmp_path)
    # Q-AGREL's best: .89, .9, .9; mean .8967, sd .0058. Backprop: .9, 1, .8; sd .1.
    # d = -.01, -.1, .1: mean -.0033, sd .1002; t(.975, 2) = 4.3027; half width 24.88 points.
    # t = .0576, p = 0.959 (Student's t with two degrees: p = 1 - t / sqrt(2 + t²) = .9593).
    assert row(text, "mnist_conv", "paper", "3") == [
        "89.67 (0.58) [89.00–90.00]",
        "90.00 (10.00) [80.00–100.00]",
        "−0.33 [−25.22, +24.55]",
        "0.96",
        "99.31 (0.04)",
    ]
    # 95 %: .855 is reached in epochs 3, 2, 3 by Q-AGREL; by backprop 2, 1, never.
    assert row(text, "mnist_conv", "paper", "95 %") == [
        "85.50",
        "2.7 (0.6)",
        "2 of 3 seeds",
        "–",
        "–",
    ]
    assert row(text, "mnist_conv", "paper", "99 %")[:2] == ["89.10", "2 of 3 seeds"]
    # The best: 3, 3, 4 against 2, 2, 2: ratio 5/3 ± t(.975, 2) · 1/3 / 2.
    assert row(text, "mnist_conv", "paper", "the best epoch") == [
        "–",
        "3.3 (0.6)",
        "2.0 (0.0)",
        "1.67 [0.95, 2.38]",
        "63 (18)",
    ]
    assert row(text, "mnist_conv", "paper", "0–2") == [
        "Q-AGREL 4 epochs, backprop 2 epochs",
        "abacus",
        "`0123456`",
        "`do it`",
    ]
    assert "Not run: mnist_dense, mnist_conv (clean), mnist_locally_connected" in text
    assert (tmp_path / "cells" / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_slowdown_all_seeds_reached(tmp_path):
    backprop = [[0.6, 0.9, 0.7], [0.9, 0.9, 0.9]]  # 95 %: .855
    write_run(tmp_path / "cells" / "mnist_conv" / "paper", backprop=backprop)
    text = reports.section("cells", tmp_path)
    # Epochs 3, 2, 3 against 2, 1, 2: 8/5. All three (co)variances are 1/3, t²/9 = 2.0570: with
    # B = 40/9 - 2.0570, A = 25/9 - 2.0570, C = 64/9 - 2.0570 the ends are (B ± √(B² - AC)) / A.
    assert row(text, "mnist_conv", "paper", "95 %")[1:4] == [
        "2.7 (0.6)",
        "1.7 (0.6)",
        "1.60 [1.32, 5.30]",
    ]


def test_a_slowdown_that_no_seed_has_is_told(tmp_path):
    """Q-AGREL's best, .9, is not 95 % of backprop's, .99 (the mean of its seeds, .98)."""
    folder = tmp_path / "cells" / "mnist_conv" / "paper"
    write_run(folder, backprop=[[0.6] * 3, [0.99] * 3])
    cells = row(reports.section("cells", tmp_path), "mnist_conv", "paper", "95 %")
    assert cells[1:4] == ["not reached", "2.0 (0.0)", "not reached"]
    shutil.rmtree(folder)
    write_run(folder, backprop=[[0.6] * 3, [0.99, 0.99, 0.96]])
    cells = row(reports.section("cells", tmp_path), "mnist_conv", "paper", "99 %")
    assert cells[1:4] == ["not reached", "2 of 3 seeds", "not reached"]


def test_what_an_unfinished_run_has_not_reached_is_open(tmp_path):
    backprop = [[0.6] * 3, [0.99] * 3]
    write_run(tmp_path / "cells" / "mnist_conv" / "paper", finished=False, backprop=backprop)
    cells = row(reports.section("cells", tmp_path), "mnist_conv\\*", "paper", "95 %")
    assert cells[1:4] == ["not reached", "2.0 (0.0)", "–"]


def test_cells_of_ones_own_stand_below_the_papers(tmp_path):
    write_run(tmp_path / "cells" / "own_cell" / "paper", name="own_cell")
    text = reports.section("cells", tmp_path)
    assert row(text, "own_cell", "paper", "3")[-1] == "none"
    assert row(text, "own_cell", "paper", "the best epoch")[-1] == "–"


def test_an_unfinished_cell_says_how_far(tmp_path):
    folder = tmp_path / "cells" / "cifar10_deep" / "clean"
    write_run(
        folder,
        finished=False,
        backprop=[],
        name="cifar10_deep",
        dataset="cifar10",
        architecture="deep",
        protocol="clean",
    )
    text = reports.section("cells", tmp_path)
    assert "**Not finished**" in text
    assert "cifar10_deep, clean: Q-AGREL 4 epochs, backprop 0 epochs" in text
    assert row(text, "cifar10_deep\\*", "clean", "3")[:3] == [
        "89.67 (0.58) [89.00–90.00]",
        "not run",
        "–",
    ]
    assert "JPEG" not in text  # true of the project's images, not of anyone's
    page = (ROOT / "experiments" / "results" / "cells" / "README.md").read_text()
    assert "JPEG (quality 75" in page
    (folder / "failed.json").write_text('{"error": "seed 1 diverged at step 7"}')
    assert "It cannot be resumed: seed 1 diverged at step 7." in reports.section("cells", tmp_path)


@pytest.mark.parametrize("apart", [False, True])
def test_a_seed_that_diverged_has_a_mark(apart, tmp_path):
    """Seed 1 of Q-AGREL, in epoch 3; of one run, or in a folder of further seeds."""
    folder = tmp_path / "cells" / "mnist_conv" / "paper"
    q_agrel = [*Q_AGREL[:2], [0.89, 0, 0.86], [0.88, None, 0.9]]
    columns = [slice(0, 1), slice(1, 3)] if apart else [slice(0, 3)]
    for place in columns:
        name = f"paper_from_seed_{place.start}" if place.start else "paper"
        ours, control = ([row[place] for row in rows] for rows in (q_agrel, BACKPROP))
        fields = {"seeds": len(ours[0]), "first_seed": place.start}
        write_run(folder.with_name(name), q_agrel=ours, backprop=control, finished=False, **fields)
        path = folder.with_name(name) / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line["error"] = [None if a in (0, None) else 0.5 for a in line["test_accuracy"]]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = reports.section("cells", tmp_path)
    assert row(text, "mnist_conv\\*‡", "paper", "3")[0].startswith("88.33 ")  # .89, .86, .9
    assert "is that of its best epoch: `mnist_conv`, Q-AGREL, seed 1 in epoch 3." in text
    headline = reports.section("headline", tmp_path)
    assert "`mnist_conv`, paper, 0–2\\*‡" in headline
    assert "`mnist_conv`, Q-AGREL, seed 1 in epoch 3." in headline
    write_run(tmp_path / "cells" / "mnist_conv" / "clean", protocol="clean")
    assert "mnist_conv | clean" in reports.section("cells", tmp_path)  # without a mark


def test_the_headline(tmp_path):
    assert reports.section("headline", tmp_path) == "*Not run.*"
    backprop = [[0.6, 0.9, 0.7], [0.9, 0.9, 0.9]]  # 98 %: .882, in epochs 2, 1, 2
    write_run(
        tmp_path / "cells" / "mnist_conv" / "paper",
        backprop=backprop,
        finished=False,
        q_agrel=[*Q_AGREL, [0.9, 0.9, 0.9]],
    )
    write_run(tmp_path / "cells" / "cifar10_conv" / "paper", backprop=[], finished=False)
    text = reports.section("headline", tmp_path)
    # Q-AGREL in epochs 3, 3, 4.
    assert row(text, "`mnist_conv`, paper, 0–2\\*") == [
        "90.00 (0.00)",
        "90.00 (0.00)",
        "+0.00 so far",
        "–",
        "2.00 so far",
    ]
    assert "cifar10" not in text and "Not finished: the best so far" in text
    # Within two epochs: .5 − .9, .86 − .9, .3 − .9, in points and the mean.
    says = "`mnist_conv`, paper: Q-AGREL 5 epochs, backprop 2 epochs (after 2 epochs of both the "
    assert f"{says}difference is −34.67 points)" in text


def test_the_papers_measure_stands_beside_the_stricter_one(tmp_path):
    """Best epochs 4, 4, 3 and 2, 2, 2; 98 % of backprop's best in epochs 3, 4, 3 and 2, 2, 2."""
    folder = tmp_path / "cells" / "mnist_conv" / "paper"
    backprop = [[0.6, 0.6, 0.6], [0.9, 0.9, 0.9]]
    write_run(
        folder,
        backprop=backprop,
        q_agrel=[[0.6] * 3, [0.7] * 3, [0.89, 0.87, 0.91], [0.9, 0.9, 0.8]],
    )
    text = reports.section("headline", tmp_path)
    assert "slowdown, best epoch | slowdown, 98 % of backprop" in text
    assert row(text, "`mnist_conv`, paper, 0–2")[2:] == [
        "+0.33 [−1.10, +1.77]",  # 0, 0 and 1 points: 1/3 ± 4.303 · (1/√3) / √3
        # 11/6 and 10/6; backprop never varies: ± 4.303 · (1/√3) / √3 / 2.
        "1.83 [1.12, 2.55]",
        "1.67 [0.95, 2.38]",
    ]


def test_when_all_classes_are_known_and_what_no_choice_of_an_epoch_adds(tmp_path):
    """Of two classes; 12 and 11 epochs, of which the last ten are averaged."""
    folder = tmp_path / "cells" / "mnist_dense" / "paper"
    q_agrel = [[0.0] * 3, [0.1] * 3, *[[0.8, 0.7, 0.6]] * 9, [0.9, 0.8, 0.7]]
    backprop = [[0.0] * 3, *[[0.7, 0.7, 0.6]] * 10]
    write_run(folder, name="mnist_dense", architecture="dense", q_agrel=q_agrel, backprop=backprop)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert "| all classes known" not in reports.section("cells", tmp_path)
    for line in lines:
        begin = {"q_agrel": 3, "backprop": 1}[line["rule"]]
        # The first seed knows both classes from epoch ``begin`` on, the next ones an epoch later.
        learned = [2.0 if line["epoch"] >= begin + seed else 1.0 for seed in range(3)]
        line |= {"classes_learned": learned, "class_accuracy": [0.5, 0.5]}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = reports.section("cells", tmp_path)
    # Epochs 3, 4, 5 and 1, 2, 3: 4/2; every (co)variance is 1, t²/3 = 6.171 > 2²: unbounded.
    cells = row(text, "mnist_dense", "paper", "all classes known")
    assert cells == ["–", "4.0 (1.0)", "2.0 (1.0)", "2.00 (no interval)", "–"]
    # Nine epochs of .8 and one of .9: .81, and .71, .61; backprop .7, .7, .6: +11, +1 and +1.
    late = row(text, "mnist_dense", "paper", "71.00 (10.00) [61.00–81.00]")
    assert late[:2] == ["66.67 (5.77) [60.00–70.00]", "+4.33 [−10.01, +18.68]"]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"protocol": "clean"}))
    assert "Without the choice" not in reports.section("cells", tmp_path)


def test_a_clean_split_leaves_other_images_out(tmp_path):
    """60,000 images are 1,875 batches of 32; the 54,000 of a clean split are 1,687 and a half."""
    for protocol in ("paper", "clean"):
        folder = tmp_path / "cells" / "mnist_conv" / protocol
        write_run(folder, protocol=protocol, batch_size=32, last_batch="drop")
        marked = runs.marks(run_results.read(folder))
        assert marked == {"paper": "", "clean": "†"}[protocol]


def test_a_run_without_the_last_batch_is_marked(tmp_path):
    folder = tmp_path / "cells" / "mnist_conv" / "paper"
    write_run(folder)
    assert "incomplete last batch" not in reports.section("headline", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    del config["last_batch"]  # as versions wrote it that knew no other way
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("headline", "cells"):
        text = reports.section(name, tmp_path)
        assert "mnist_conv" in text and "†" in text
        assert "† Trained without the incomplete last batch of each epoch" in text
    # 60,000 images are 1,875 batches of 32: none was left out.
    (folder / "config.json").write_text(json.dumps(config | {"batch_size": 32}))
    for name in ("headline", "cells"):
        assert "†" not in reports.section(name, tmp_path)


@pytest.mark.parametrize("finished", [True, False])
def test_seeds_trained_apart_are_one_run(tmp_path, finished):
    whole = run_results.read(write_run(tmp_path / "whole" / "paper", finished=finished))
    folder = write_run(tmp_path / "apart" / "paper", seeds=1, finished=finished)
    longer = [row[1:] for row in [*Q_AGREL, [0.0, 0.1, 0.2]]]  # went on for another epoch
    write_run(
        folder.parent / "paper_from_seed_1",
        seeds=2,
        first_seed=1,
        finished=finished,
        q_agrel=longer,
        backprop=[row[1:] for row in BACKPROP],
    )
    apart = run_results.read(folder)
    assert (apart.config, apart.finished) == (whole.config, finished)
    for rule in ("q_agrel", "backprop"):
        np.testing.assert_array_equal(apart.accuracy(rule), whole.accuracy(rule))
        np.testing.assert_array_equal(apart.best_epoch(rule), whole.best_epoch(rule))
    assert np.isnan(apart.curves["q_agrel"][4, 0])
    assert len(apart.sessions) == 2


def test_seeds_of_another_recipe_are_refused(tmp_path):
    folder = write_run(tmp_path / "paper", seeds=1)
    beside = write_run(tmp_path / "paper_from_seed_1", seeds=1, first_seed=1, learning_rate=1.0)
    with pytest.raises(UserError, match="paper_from_seed_1 is not the same run as"):
        run_results.read(folder)
    config = {**json.loads((beside / "config.json").read_text()), "learning_rate": 0.1}
    (beside / "config.json").write_text(json.dumps({**config, "first_seed": 3}))
    with pytest.raises(UserError, match="from seed 1 on: rename it, or train the seeds between"):
        run_results.read(folder)


def test_seeds_of_another_budget_are_one_run_only_if_all_stopped_early(tmp_path):
    folder = write_run(tmp_path / "paper", seeds=1, epochs=5)
    beside = write_run(tmp_path / "paper_from_seed_1", seeds=1, first_seed=1, epochs=500)

    def say(place, *stopped):
        content = json.loads((place / "summary.json").read_text())
        for entry, early in zip(content["results"], stopped, strict=True):
            entry["stopped_early"] = [early]
        (place / "summary.json").write_text(json.dumps(content))

    say(folder, True, True)
    say(beside, True, True)
    together = run_results.read(folder)
    assert together.finished and together.config.seeds == 2
    say(folder, False, True)  # Q-AGREL needed all its epochs
    differ = r"\(epochs 5 in paper, 500 in paper_from_seed_1\)"
    refused = f"paper_from_seed_1 is not the same run as .*{differ}"
    with pytest.raises(UserError, match=refused):
        run_results.read(folder)
    say(folder, True, True)
    (beside / "summary.json").unlink()  # it may go on beyond 5 epochs
    with pytest.raises(UserError, match=refused):
        run_results.read(folder)


def test_one_seed_has_no_interval(tmp_path):
    write_run(tmp_path / "cells" / "mnist_conv" / "paper", seeds=1)
    text = reports.section("cells", tmp_path)
    assert row(text, "mnist_conv", "paper", "1")[:4] == [
        "89.00",
        "90.00",
        "−1.00 (no interval)",
        "–",
    ]
    assert row(text, "mnist_conv", "paper", "95 %")[1:4] == ["3.0", "2.0", "1.50 (no interval)"]


def test_a_folder_of_an_earlier_version(tmp_path):
    """Fields a config did not have yet mean their defaults; sessions were not written down."""
    folder = write_run(tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    del config["precision"], config["hidden"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "environments.jsonl").unlink()
    summary = json.loads((folder / "summary.json").read_text())
    summary["command"] = "do it"
    for entry in summary["results"]:
        entry |= ENVIRONMENT
    (folder / "summary.json").write_text(json.dumps(summary))
    run = run_results.read(folder)
    assert run.config.precision == "float32" and run.finished
    assert run.sessions[0]["commit"] == "0123456789"


def test_statistics_by_hand():
    # d = 1, 2, 3: mean 2, sd 1, t(.975, 2) = 4.3027; p = 1 - t / sqrt(2 + t²), t = 2 sqrt 3.
    d = paired_difference(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(d[:3], [2, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5], rtol=1e-6)
    np.testing.assert_allclose(d.p, 1 - 12**0.5 / 14**0.5)
    assert np.isnan(paired_difference(np.array([0.3, 0.4]), np.array([0.2, 0.3])).p)
    # Fieller's ends are the ratios that a paired t test of a against ratio · b just rejects.
    a, b = np.array([10.0, 14.0, 9.0, 12.0]), np.array([5.0, 6.0, 5.5, 6.5])
    ratio, low, high = ratio_interval(a, b)
    assert ratio == 45 / 23 and low < ratio < high
    for end in (low, high):
        np.testing.assert_allclose(stats.ttest_rel(a, end * b).pvalue, 0.05, rtol=1e-9)
    # One seed; nothing varies; b may be 0 as far as two seeds can tell.
    for a, b in ([3], [2]), ([4, 4], [2, 2]), ([2, 6], [1, 2]):
        ratio, *ends = ratio_interval(a, b)
        assert ratio == np.mean(a) / np.mean(b) and np.isnan(ends).all()


def test_signed_ranks_by_hand():
    # Ranks 1 to 5, the third against the others: of 32 sign patterns 2 · 5 are as far out (W ≤ 3).
    assert signed_rank_test([2, 4, 1, 9, np.inf], [1, 2, 4, 5, 5]) == 10 / 32
    assert signed_rank_test([np.inf, 3], [np.inf, 3]) == 1
    assert signed_rank_test([np.inf] * 5, [7] * 5) == 2 / 32  # later than the last


def test_only_the_marked_parts_are_written(tmp_path):
    text = "before\n<!-- report digits: begin -->\nold\n<!-- report digits: end -->\nafter\n"
    new = report.rebuild(text, tmp_path)
    assert new.startswith("before\n<!-- report digits: begin -->\n*Not run.*")
    assert new.endswith("\n<!-- report digits: end -->\nafter\n") and "old" not in new
    assert report.rebuild(new, tmp_path) == new
    for bad in (text.replace("digits: end", "cells: end"), text.replace("digits", "nonesuch")):
        with pytest.raises(UserError):
            report.rebuild(bad, tmp_path)


@pytest.mark.parametrize("name", reports.NAMES)
def test_no_results_at_all(name, tmp_path):
    assert "not run" in reports.section(name, tmp_path).lower()


def test_every_page_leads_to_files_that_exist():
    pages = report.pages()
    folders = {path for path in (ROOT / "experiments" / "results").iterdir() if path.is_dir()}
    assert folders <= {page.parent for page in pages}
    for page in pages:
        for path in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / path).exists(), (page, path)


def test_every_section_stands_on_one_page():
    text = "".join(page.read_text() for page in report.pages())
    assert sorted(re.findall(r"^<!-- report (\w+): begin", text, re.MULTILINE)) == sorted(
        reports.NAMES
    )


def test_the_index_quotes_what_the_pages_say(tmp_path):
    write_run(tmp_path / "cells" / "mnist_conv" / "paper")
    text = reports.section("index", tmp_path)
    assert "| `mnist_conv`: Q-AGREL 89.67 (0.58) %, backprop 90.00 (10.00) % |" in text
    rows = [line for line in text.splitlines()[2:] if "not run" not in line]
    assert len(rows) == 1


def test_the_index_quotes_no_precision_and_no_feedback_that_is_not_finished(tmp_path):
    for name, finished in (("digits", True), ("digits_bfloat16", False)):
        write_run(tmp_path / name, name="digits", dataset="digits", finished=finished)
    results = [
        {
            "config_name": name,
            "kind": kind,
            "rule": "q_agrel",
            "finished": (name, kind) != ("begun", "kolen_pollack"),
            "test_accuracy": [accuracy],
        }
        for name in ("done", "begun")
        for kind, accuracy in (("tied", 0.9), ("kolen_pollack", 0.8))
    ]
    (tmp_path / "feedback").mkdir()
    (tmp_path / "feedback" / "summary.json").write_text(json.dumps({"results": results}))
    text = reports.section("index", tmp_path)
    assert "| Q-AGREL float32 89.67 (0.58) % |" in text
    kinds = "Q-AGREL with Kolen–Pollack and with tied feedback, %: `done` 80.00 and 90.00 (the page"
    assert kinds in text


def test_the_index_compares_the_curriculum_of_100_classes_at_equal_seeds_and_epochs(tmp_path):
    write_run(tmp_path / "cells" / "tiny_imagenet100_conv" / "paper")
    curriculum = [[0.2], [0.7]]  # of seed 1, two epochs: .7 against the recipe's .86
    folder = tmp_path / "hundred_classes" / "curriculum"
    write_run(folder, seeds=1, first_seed=1, finished=False, q_agrel=curriculum, backprop=[])
    text = reports.section("index", tmp_path)
    assert (
        "best test accuracy in 2 epochs, seed 1, %: Q-AGREL, class curriculum 70.00, the published "
        "recipe 86.00; without the curriculum to the stopping rule, seeds 0–2: 89.67, backprop "
        "90.00"
    ) in text


def test_the_first_epochs_on_mnist_by_hand(tmp_path):
    write_run(tmp_path / "mnist_dense_he_8_epochs", name="mnist_dense", epochs=8)
    text = reports.section("mnist_start", tmp_path)
    assert "| validation accuracy %, epochs 1–8 |" in text
    assert row(text, "Q-AGREL") == ["20.00, 55.33, 88.33, 89.33", "89.67 (0.58)"]
    assert row(text, "backprop") == ["73.33, 90.00", "90.00 (10.00)"]
    assert row(text, "95 %")[:2] == ["85.50", "2.7 (0.6)"]
    assert "the best epoch" not in text


def test_the_second_command_of_the_readme(tmp_path):
    slow = [[0.1] * 3, [0.2] * 3, [0.3] * 3, [0.4] * 3, [0.5, 0.6, 0.7], [0.9] * 3]
    write_run(tmp_path / "mnist_dense_he_8_epochs", name="mnist_dense", epochs=8)
    write_run(tmp_path / "cells" / "mnist_dense" / "paper", name="mnist_dense", q_agrel=slow)
    text = reports.section("quick_mnist", tmp_path)
    assert text.startswith("In 8 epochs, at the one that the validation images picked")
    assert "the test accuracy of Q-AGREL was 89.67 (0.58) %" in text
    assert "backprop 90.00 (10.00) % (seed 0–2, abacus, commit `0123456`" in text
    # 98 % of backprop's best is .882, reached in epoch 6 by all.
    assert "60.0 % after 5 epochs, and reaches 98 % of backprop's accuracy after 6 (0)" in text
    # Of its own backprop: .49 where that has .5.
    folder = tmp_path / "cells" / "mnist_dense" / "paper"
    shutil.rmtree(folder)
    write_run(folder, name="mnist_dense", q_agrel=slow, backprop=[[0.5] * 3])
    text = reports.section("quick_mnist", tmp_path)
    assert "reaches 98 % of backprop's accuracy after 5 (0) epochs" in text


def test_results_of_ones_own_have_pages_beside_them_and_the_projects_stay(tmp_path):
    before = {path: path.read_bytes() for path in report.pages()}
    write_run(tmp_path / "cells" / "mnist_conv" / "paper")
    (tmp_path / "working_memory").mkdir()  # nothing in it that a page tells
    report.main(["--results", str(tmp_path)])
    page = tmp_path / "cells" / "README.md"
    text = page.read_text()
    assert text.startswith("# The papers' cells") and "| mnist_conv | paper | 3 | 89.67" in text
    assert [path.parent for path in tmp_path.glob("*/README.md")] == [page.parent]
    page.write_text("My words.\n" + text.replace("89.67", "99.99"))
    report.main(["--results", str(tmp_path)])  # what is written by hand is kept
    assert page.read_text() == "My words.\n" + text
    assert before == {path: path.read_bytes() for path in report.pages()}
    assert "could not be had" not in text
    with pytest.raises(UserError, match=r"no results in folders of the names .*cells.*: rename"):
        report.main(["--results", str(tmp_path / "working_memory")])


def test_pages_name_the_folders_that_were_read(tmp_path, monkeypatch):
    """The project's from the checkout's root on, others as given, in commands, too."""
    project = ROOT / "experiments" / "results"
    monkeypatch.chdir(tmp_path)
    own = Path("mine")
    for results, named in ((project, "experiments/results"), (own, "mine")):
        assert reports.named(results / "digits") == f"{named}/digits"
    for name in reports.NAMES:
        assert "experiments/results" not in reports.section(name, own), name
    write_run(own / "digits", name="digits")
    assert "folder `mine/digits/`." in reports.section("digits", own)


def test_a_page_without_places_to_write_is_refused(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("# Mine\n\n<!-- report digits -->\n")
    with pytest.raises(
        UserError, match=r"README\.md has no lines .*begin.*NAME is one of headline"
    ):
        report.main(["--readme", str(page)])
    assert page.read_text() == "# Mine\n\n<!-- report digits -->\n"


def test_check_needs_no_jax_and_leaves_no_trace(tmp_path):
    """The committed pages are what the report writes; anything added to one is noticed."""
    command = [sys.executable, "-X", "importtime", "-m", "experiments.report", "--check"]
    before = {p: p.stat().st_mtime_ns for p in (ROOT / "experiments" / "results").rglob("*")}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "| jax" not in result.stderr
    assert before == {p: p.stat().st_mtime_ns for p in before}
    readme = tmp_path / "README.md"
    page = ROOT / "experiments" / "results" / "digits" / "README.md"
    original = page.read_text()
    readme.write_text(original.replace("<!-- report digits: end", "8 %\n<!-- report digits: end"))
    with pytest.raises(SystemExit) as stop:
        report.main(["--check", "--readme", str(readme)])
    assert stop.value.code == 1
    report.main(["--readme", str(readme)])
    assert readme.read_text() == original


def test_the_headlines_note_tells_both_protocols_of_a_cell(tmp_path):
    for protocol, finished in (("paper", False), ("clean", True)):
        write_run(tmp_path / "cells" / "mnist_conv" / protocol, finished=finished)
    path = tmp_path / "cells" / "mnist_conv" / "clean" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"protocol": "clean"}))
    text = reports.section("headline", tmp_path)
    assert "`mnist_conv`, paper: " in text and "`mnist_conv`, clean: " not in text


def test_runs_of_other_seeds_are_paired_by_seed(tmp_path):
    """Epochs to .882 of the published run: 2, 1, 2 by backprop; seed 1 alone is in both."""
    backprop = [[0.6, 0.9, 0.7], [0.9, 0.9, 0.9]]
    published = run_results.read(write_run(tmp_path / "a" / "paper", backprop=backprop))
    options = {"seeds": 2, "first_seed": 1, "finished": False, "backprop": []}
    folder = write_run(tmp_path / "b" / "paper", **options)
    other = run_results.read(folder)
    ours, theirs = np.array([5.0, 6.0]), np.array([2.0, 1.0, 4.0])
    paired = runs.of_common_seeds(other, ours, published, theirs)
    assert [list(values) for values in paired] == [[5.0, 6.0], [1.0, 4.0]]
    apart = other._replace(config=dataclasses.replace(other.config, first_seed=7))
    paired = runs.of_common_seeds(apart, ours, published, theirs)
    assert [list(values) for values in paired] == [[5.5], [7 / 3]]
    assert runs.ratio(*paired) == "2.36 (no interval)"
    assert runs.counted(apart, "q_agrel", published)


def test_no_slowdown_where_the_published_backprop_never_got_there(tmp_path):
    """Its third seed never has .882, 98 % of its seeds' mean."""
    published = run_results.read(write_run(tmp_path / "a" / "paper"))
    other = run_results.read(write_run(tmp_path / "b" / "paper", q_agrel=[[0.95] * 3]))
    assert runs.counted(other, "q_agrel", published)[-1] == "–"


def test_commits_are_short_and_say_whether_the_code_was_theirs():
    given = ("0123456789", "0123456789-dirty", None)
    assert [runs.short(commit) for commit in given] == ["0123456", "0123456-dirty", "unknown"]


def test_seeds_trained_with_other_rules_are_told(tmp_path):
    folder = write_run(tmp_path / "paper")
    beside = write_run(tmp_path / "paper_from_seed_3", seeds=3, first_seed=3)
    config = json.loads((beside / "config.json").read_text())
    (beside / "config.json").write_text(json.dumps(config | {"rules": ["q_agrel"]}))
    with pytest.raises(UserError, match="paper_from_seed_3 is not the same run as"):
        run_results.read(folder)


def test_forty_lines_of_a_picture_are_told_apart():
    assert len({str(plots.color_and_line(n)) for n in range(40)}) == 40


@pytest.fixture
def drawn(monkeypatch):
    """Pictures as (title, [[(marker, heights) of each line] of each panel])."""
    pictures = []

    def keep(drawing, path):
        panels = [
            [(x.get_marker(), np.asarray(x.get_ydata()).tolist()) for x in axes.lines]
            for axes in drawing.axes
        ]
        pictures.append((drawing.get_suptitle(), panels))

    monkeypatch.setattr(plots, "save", keep)
    return pictures


def test_the_picture_of_seeds_trained_apart_shows_them_all(tmp_path, drawn):
    write_run(tmp_path / "whole" / "paper")
    folder = write_run(tmp_path / "apart" / "paper", seeds=1)
    q_agrel, backprop = ([row[1:] for row in rows] for rows in (Q_AGREL, BACKPROP))
    beside = folder.parent / "paper_from_seed_1"
    write_run(beside, seeds=2, first_seed=1, q_agrel=q_agrel, backprop=backprop)
    for name in ("whole", "apart"):
        run = run_results.read(tmp_path / name / "paper")
        plots.learning_curves(run.folder, run.folders)
    assert drawn[0] == drawn[1]
    title, recipe = drawn[0][0].splitlines()
    assert title.endswith("mean and range of 3 seeds") and recipe.startswith("mnist_conv")


def test_learning_curves_by_hand(tmp_path, monkeypatch):
    """Left the error in per cent, a seed that stopped staying where it was; right the classes."""
    folder = write_run(
        tmp_path / "run",
        q_agrel=[[0.5, 0.9, 0.9], [0.75, 0.6, 1.0], [None, 0.9, 1.0]],
        backprop=[[1.0] * 3],
        finished=False,
    )
    drawn = []
    monkeypatch.setattr(plots, "save", lambda drawing, path: drawn.append(drawing))
    plots.learning_curves(folder)
    left, right = drawn[0].axes
    ours, control = (line.get_ydata() for line in left.lines)
    for axes in (left, right):
        assert [line.get_xdata().tolist() for line in axes.lines] == [[1, 2, 3], [1]]
    # An error of 0, which a logarithm would not show, is drawn as 0.01.
    np.testing.assert_allclose(ours, [70 / 3, 65.01 / 3, 35.01 / 3])
    np.testing.assert_allclose(control, [0.01])
    np.testing.assert_allclose(right.lines[0].get_ydata(), [2.3 / 3, 2.35 / 3, 2.65 / 3])


def _with_lines(folder, **of_epoch):
    """Give every line of metrics its epoch's entry of each list."""
    path = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line |= {name: entries[line["epoch"] - 1] for name, entries in of_epoch.items()}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_classes_that_are_known_by_hand(tmp_path, monkeypatch):
    """An epoch a column, a class a row, the first at the bottom, in per cent."""
    folder = write_run(tmp_path / "run", q_agrel=[[0.5] * 3] * 2, backprop=[[0.5] * 3])
    _with_lines(folder, class_accuracy=[[0.25, 0.5, 0.75], [0.5, 1.0, 0.0]])
    pictures = []
    monkeypatch.setattr(plots, "save", lambda drawing, path: pictures.append(drawing))
    plots.class_discovery(folder)
    ours, control = (axes.images[0] for axes in pictures[0].axes[:2])
    assert ours.get_array().tolist() == [[25, 50], [50, 100], [75, 0]]
    assert control.get_array().tolist() == [[25], [50], [75]]
    assert (ours.origin, ours.get_extent()) == ("lower", [0.5, 2.5, -0.5, 2.5])
    assert ours.get_clim() == (0, 100)


def test_angles_by_hand(tmp_path, drawn):
    """Above those of the weights, below those of the update; a seed without one does not count."""
    folder = write_run(tmp_path / "run", q_agrel=[[0.5] * 3] * 2, backprop=[[0.5] * 3])
    _with_lines(
        folder,
        feedback_angle_degrees=[{"Dense_0": [90, 80, 40]}, {"Dense_0": [60, 40, 20]}],
        update_angle_degrees=[{"Dense_0": [30, 10, 20]}, {"Dense_0": [None, 4, 8]}],
    )
    plots.angles(folder)
    ((_, panels),) = drawn
    curves = [panel[0][1] for panel in panels]  # the other line is at 90 degrees
    assert curves == [[70, 40], [70], [20, 6], [20]]


def test_the_first_epoch_is_seen(tmp_path, drawn):
    plots.learning_curves(write_run(tmp_path / "run", q_agrel=Q_AGREL[:1], backprop=BACKPROP[:1]))
    plots.learning_curves(write_run(tmp_path / "longer"))
    markers = [{marker for panel in panels for marker, _ in panel} for _, panels in drawn]
    assert markers == [{"o"}, {""}]


def test_beside_a_variant_whose_backprop_has_not_begun_stands_that_of_the_recipe(tmp_path, drawn):
    write_run(tmp_path / "published")
    write_run(tmp_path / "other", finished=False, backprop=[])
    text = variants.tables(tmp_path, "page", "published", {"a variant": "other"})
    assert len(row(text, "Q-AGREL, a variant\\*", "0–2")) == 6
    recipe, variant = drawn[0][1]
    assert variant[1] == recipe[1]


def test_variants_that_their_epochs_ended_are_told(tmp_path, drawn):
    """Not those that may go on: of one, backprop has not had its epochs."""
    write_run(tmp_path / "published")
    names = {"cut off": "cut", "going on": "going", "stopped": "stopped"}
    write_run(tmp_path / "cut", epochs=len(Q_AGREL))
    write_run(tmp_path / "going", epochs=len(Q_AGREL), finished=False)
    write_run(tmp_path / "stopped", epochs=9)
    text = variants.tables(tmp_path, "page", "published", names)
    assert "Ended before their stopping rule: cut off after 4 epochs." in text


def test_a_variant_without_an_epoch_of_q_agrel_is_left_out(tmp_path, drawn):
    write_run(tmp_path / "published")
    write_run(tmp_path / "other", finished=False, q_agrel=[])
    given = (tmp_path, "published", {"a variant": "other"})
    assert list(variants.read(*given)) == [variants.RECIPE]
    assert variants.tables(tmp_path, "page", *given[1:]) == reports.NOT_RUN


def test_what_was_published_stands_beside_the_papers_protocol_alone(tmp_path, drawn):
    """It is of the epoch that the test images picked: with a clean split nothing compares to it."""
    for protocol in ("paper", "clean"):
        write_run(tmp_path / "cells" / "mnist_conv" / protocol, protocol=protocol)
    text = reports.section("cells", tmp_path)
    for protocol, accuracy, epochs in (
        ("paper", "99.31 (0.04)", "63 (18)"),
        ("clean", "not known to us", "–"),
    ):
        assert row(text, "mnist_conv", protocol, "3")[-1] == accuracy
        assert row(text, "mnist_conv", protocol, "the best epoch")[-1] == epochs
    paper, clean = drawn[-1][1]
    np.testing.assert_allclose(paper[-1][1], [0.69, 0.69])
    assert len(paper) == 3 and len(clean) == 2


def test_further_seeds_are_in_the_order_of_their_numbers(tmp_path):
    """Not in that of their folders' names: 10 comes before 2."""
    for first, seeds in ((0, 2), (2, 8), (10, 1)):
        curves = [[0.1] * seeds, [0.5 + seed / 100 for seed in range(first, first + seeds)]]
        place = tmp_path / ("run" if first == 0 else f"run_from_seed_{first}")
        write_run(place, seeds=seeds, first_seed=first, q_agrel=curves, backprop=curves)
    whole = run_results.read(tmp_path / "run")
    assert (whole.config.first_seed, whole.config.seeds) == (0, 11)
    np.testing.assert_allclose(whole.accuracy("q_agrel"), 0.5 + np.arange(11) / 100)


def test_a_run_is_finished_when_all_of_its_seeds_are(tmp_path):
    """Until then its accuracy is the best so far, of all seeds."""
    folder = write_run(tmp_path / "run", seeds=1)
    rest = {"seeds": 1, "first_seed": 1, "finished": False}
    write_run(tmp_path / "run_from_seed_1", q_agrel=[[0.3], [0.4]], backprop=[[0.5]], **rest)
    whole = run_results.read(folder)
    assert not whole.finished
    np.testing.assert_allclose(whole.accuracy("q_agrel"), [0.89, 0.4])


def _without(folder, number):
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:number] + lines[number + 1 :]))


@pytest.mark.parametrize(
    ("number", "says"),
    [(0, "lacks epoch 1 of q_agrel"), (1, "lacks epoch 2 of q_agrel"), (4, "epoch 1 of backprop")],
)
def test_an_epoch_that_is_missing_is_told(number, says, tmp_path):
    folder = write_run(tmp_path / "digits", name="digits", dataset="digits")
    _without(folder, number)
    with pytest.raises(UserError, match=says):
        run_results.read(folder)


def test_a_last_epoch_that_is_missing_is_told(tmp_path):
    folder = write_run(tmp_path / "digits", name="digits", dataset="digits")
    summary = json.loads((folder / "summary.json").read_text())
    for entry, epochs in zip(summary["results"], (4, 2), strict=True):
        entry["epochs"] = epochs
    (folder / "summary.json").write_text(json.dumps(summary))
    assert run_results.read(folder).finished
    _without(folder, 5)
    with pytest.raises(UserError, match=r"has 1 epochs of backprop, summary.json tells of 2"):
        run_results.read(folder)


def test_precisions_of_other_recipes_are_not_compared(tmp_path):
    digits = {"name": "digits", "dataset": "digits"}
    write_run(tmp_path / "digits", **digits)
    write_run(tmp_path / "digits_tensorfloat32", precision="tensorfloat32", **digits, epochs=4)
    # An option of a curriculum that is off is none of the recipe.
    write_run(tmp_path / "digits_bfloat16", precision="bfloat16", **digits, curriculum_start=3)
    text = reports.section("precision", tmp_path)
    assert "tensorfloat32 is not compared with float32: epochs 4 there, " in text
    assert "| Q-AGREL | bfloat16 |" in text and "| Q-AGREL | tensorfloat32 |" not in text
    assert "tensorfloat32" not in reports.section("index", tmp_path)


def test_runs_of_one_rule_are_no_damage(tmp_path):
    digits = {"name": "digits", "dataset": "digits", "rules": ("q_agrel",)}
    folder = write_run(tmp_path / "digits", **digits, backprop=[], finished=False)
    summary = {"results": [{"rule": "q_agrel", "test_accuracy": [0.9, 0.9, 0.9]}]}
    (folder / "summary.json").write_text(json.dumps(summary))
    assert "*Not run.*" in reports.section("precision", tmp_path)
    assert "| of Q-AGREL alone |" in reports.section("index", tmp_path)


def test_a_rule_that_has_not_begun_is_not_said_to_have_run(tmp_path):
    write_run(tmp_path / "digits", name="digits", dataset="digits", backprop=[], finished=False)
    assert "| of Q-AGREL alone |" in reports.section("index", tmp_path)


@pytest.mark.parametrize("results", [[], ["rewards shuffled"], ["right choices rewarded"]])
def test_a_control_whose_settings_are_not_all_there_is_no_damage(results, tmp_path):
    entries = [{"label": label, "test_accuracy": [0.5]} for label in results]
    (tmp_path / "controls" / "reward").mkdir(parents=True)
    path = tmp_path / "controls" / "reward" / "summary.json"
    path.write_text(json.dumps({"results": entries}))
    assert "with shuffled rewards" not in reports.section("index", tmp_path)


def test_a_difference_so_far_is_a_sentence(tmp_path):
    run = run_results.read(write_run(tmp_path / "digits", finished=False))
    assert " points so far." in runs.comparison(run)[0]


def test_pages_are_written_all_or_none_and_the_page_at_fault_is_named(tmp_path):
    results, good, bad = tmp_path / "results", tmp_path / "good.md", tmp_path / "bad.md"
    results.mkdir()
    before = "<!-- report digits: begin -->\nold\n<!-- report digits: end -->\n"
    good.write_text(before)
    bad.write_text("<!-- report digits: begin -->\n")
    arguments = ["--results", str(results), "--readme", str(good), "--readme", str(bad)]
    for check in ([], ["--check"]):
        with pytest.raises(UserError, match=r"bad.md: the report markers do not come in pairs"):
            report.main([*arguments, *check])
    assert good.read_text() == before
