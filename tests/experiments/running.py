"""Commands run within the test's own process: a process costs seconds, most of them imports."""

import contextlib
import io
from typing import NamedTuple

import jax

from experiments.common import cli


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(main, *arguments):
    """Call ``main`` of a command as ``python -m`` would, with ``arguments``."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    # The command line does not check for reused keys.
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        jax.debug_key_reuse(False),
    ):
        try:
            cli.run(main, [str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
    return Result(code, out.getvalue(), err.getvalue())
