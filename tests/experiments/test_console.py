"""What is printed fits 80 columns and any console."""

import io
import sys
import warnings

import pytest
from rich.console import Console

from experiments.common import cli, console, progress

SYMBOLS = "Σw² − α, σ ½ × 3 ± 1 … “x” → 90°"


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("ascii", 'sum w2 - alpha, sigma 1/2 x 3 +/- 1 ... "x" -> 90 degrees'),
        ("cp1252", "sum w² - alpha, sigma ½ × 3 ± 1 … “x” -> 90°"),
        ("utf-8", SYMBOLS),
    ],
)
def test_letters_that_a_console_lacks_are_spelled_out(encoding, printed, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding, write_through=True))
    console.spell_out()
    print(SYMBOLS, end="")
    assert raw.getvalue().decode(encoding) == printed


def test_a_table_on_a_console_without_boxes(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "cp1252", write_through=True))
    console.spell_out()
    console.table("σ", ("rule", "accuracy"), [("q_agrel", "97 %")])
    text = raw.getvalue().decode("cp1252")
    assert "sigma" in text and "| q_agrel |     97 % |" in text


@pytest.mark.parametrize("width", [60, 80, 100])
def test_heads_and_names_are_whole_at_any_width(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    headings = ["network", *(f"measure {n},\nmean (sd)" for n in "abcdefg")]
    rows = [("a network of many words", *("99.99 (0.01)" for _ in range(7)))] * 2
    console.table("title", headings, rows)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    for word in ("network", *(f"measure {n}," for n in "abcdefg")):
        assert word in text
    assert text.count("99.99 (0.01)") == 14


@pytest.fixture
def terminal(monkeypatch):
    """An 80 columns wide terminal that remembers what it shows."""
    screen = io.StringIO()
    made = Console(file=screen, force_terminal=True, width=80, height=10)
    monkeypatch.setattr(progress, "Console", lambda file: made)
    return screen


def test_a_bar_keeps_time_and_state_whole_and_ends_full(terminal):
    state = "123 converged, 4 gave up; mean trial 12,345, shaping level 1.5; 123,456 trials/s"
    with progress.Reporter("match_to_category", 500) as reporter:
        reporter.update(100, state)
        reporter._bars.refresh()
        assert state.split(";")[0] in terminal.getvalue() and " 20%" in terminal.getvalue()
        reporter.finish("101/500", state)
    end = terminal.getvalue()
    assert "100%" in end and "trials/s" in end and "…" not in end


def test_in_a_log_the_end_says_what_was_done(capsys):
    with progress.Reporter("digits q_agrel", 500) as reporter:
        reporter.update(0, "compiling", important=True)
        reporter.update(1, "held back")
        reporter.finish("12/500", "stopped early")
    assert capsys.readouterr().err.splitlines() == [
        "digits q_agrel  0/500  compiling",
        "digits q_agrel  12/500  stopped early",
    ]


def test_letters_that_are_spelled_out_take_their_columns(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii", write_through=True))
    monkeypatch.setenv("COLUMNS", "80")
    console.spell_out()
    headings = ["rule", *(f"{n} °\nto ½σ²" for n in "abcdef")]
    console.table("±1 °", headings, [["tied …", *("12.5° ± 0.5" for _ in "abcdef")]])
    text = raw.getvalue().decode("ascii")
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("12.5 degrees +/- 0.5") == text.count("to 1/2sigma2") == 6
    boxes = [line for line in text.splitlines() if line.startswith(("|", "+"))]
    lengths = [len(line) for line in boxes]
    assert len(set(lengths)) <= 1 + text.count("+/-1 degrees")


def test_a_warning_to_the_user_is_one_line_and_others_keep_their_place():
    def main(argv):
        for category, expected in (
            (UserWarning, "warning: no image of class 3\n"),
            (DeprecationWarning, "data.py:7: DeprecationWarning: no image\nof class 3\n"),
        ):
            message = category("no image\nof class 3")
            assert warnings.formatwarning(message, category, "data.py", 7, "") == expected

    usual = warnings.formatwarning
    cli.run(main, [])
    assert warnings.formatwarning is usual
