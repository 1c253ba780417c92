"""The command that times streamed images beside those in memory."""

import functools
import json

import pytest

from experiments import streaming_speed
from qagrel_jax import networks


@pytest.mark.usefixtures("folded_keys")
def test_prints_and_writes_both_speeds(tmp_path, capsys, monkeypatch):
    cell = streaming_speed.Cell("dense", (2, 2, 1), images=300, seeds=2)
    monkeypatch.setitem(streaming_speed.CELLS, "dense", cell)
    small = functools.partial(networks.make_network, hidden=(3,))
    monkeypatch.setattr(networks, "make_network", small)
    out = tmp_path / "out"
    streaming_speed.main(["--cells", "dense", "--repeats", "1", "--out", str(out)])
    content = json.loads((out / "streaming_speed.json").read_text())
    assert {"device", "versions", "commit"} <= set(content) and content["repeats"] == 1
    assert list(content["results"]) == ["dense"]
    found = content["results"]["dense"]
    assert (found["image_shape"], found["images"], found["seeds"]) == ([2, 2, 1], 300, 2)
    resident, streamed = (found[f"{kind}_images_per_second"] for kind in ("resident", "streamed"))
    # One turn: the median of the ratios is the ratio.
    assert found["streamed_over_resident"] == pytest.approx(streamed / resident)
    _, line = capsys.readouterr().out.splitlines()
    ratio = f"{found['streamed_over_resident']:.3f}"
    assert line.split() == ["dense", f"{resident:,.0f}", f"{streamed:,.0f}", ratio]


@pytest.mark.parametrize("measured", [0, 1])
def test_an_interruption_says_whether_anything_was_measured(measured, monkeypatch):
    found = dict.fromkeys(
        ("resident_images_per_second", "streamed_images_per_second", "streamed_over_resident"), 1.0
    )
    answers = iter([found] * measured)

    def measure(*_):
        for answer in answers:
            return answer
        raise KeyboardInterrupt

    monkeypatch.setattr(streaming_speed, "measure", measure)
    with pytest.raises(KeyboardInterrupt) as caught:
        streaming_speed.main(["--cells", "dense,conv"])
    said = ("nothing was measured", "what was measured is printed above")[measured]
    assert str(caught.value) == f"interrupted; {said}"
