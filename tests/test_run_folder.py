"""The files of a run survive what a crash leaves behind."""

import numpy as np
import pytest

from experiments import checkpoints, run_folder
from experiments.cli import UserError


def test_a_torn_line_spoils_no_other(tmp_path):
    path = tmp_path / "lines.jsonl"
    run_folder.append_line(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"a": 2, "b"')
    run_folder.append_line(path, {"a": 3})
    run_folder.append_line(path, {"a": 4})
    assert run_folder.read_lines(path) == [{"a": 1}, {"a": 3}, {"a": 4}]


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    path = tmp_path / "checkpoint.msgpack"
    checkpoints.save(path, {"w": np.ones(3, np.float32)})
    with pytest.raises(UserError, match=r"expected shape \(5, 2\), got \(3,\)"):
        checkpoints.load(path, {"w": np.zeros((5, 2), np.float32)})
