"""Files of a run: JSON, whole or absent (see ``qagrel_jax.atomic``), and lines added one by one."""

import json
import os
from pathlib import Path
from typing import Any

from experiments.common.cli import UserError

_INSTEAD = "copy it again, or move it away"


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` so that a crash at any moment leaves the old file or the new one."""
    from qagrel_jax import atomic  # brings JAX: not before arguments are known to be good

    with atomic.replacing(path) as file:
        file.write(content)


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON, whole or not at all; NaN is refused (``ValueError``)."""
    text = json.dumps(content, indent=2, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the mapping in ``path``, None if there is no such file; ``UserError`` if damaged."""
    try:
        content = json.loads(path.read_bytes()) if path.is_file() else None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}; {_INSTEAD}") from None
    if content is not None and not isinstance(content, dict):
        held = f"it holds {str(content)[:40]!r}, not a mapping"
        raise UserError(f"cannot read {path}: {held}; {_INSTEAD}")
    return content


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Add one JSON line to ``path``; it is on the disk when this returns."""
    line = json.dumps(content, allow_nan=False) + "\n"
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a line cut off by a crash must not spoil this one
                line = "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    """Write JSON lines, whole or not at all; a file that has just these is left alone."""
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines).encode()
    if text != (path.read_bytes() if path.is_file() else b""):
        write_bytes(path, text)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of ``path``; a line that a crash cut off, or damaged, is left out."""
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    lines = []
    for text in content.splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def read_metrics(
    folder: Path, name: str = "metrics.jsonl", needed: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Return the lines in ``folder`` that have a rule, an epoch and what else is needed."""
    return [
        line
        for line in read_lines(folder / name)
        if {"rule", "epoch", *needed} <= line.keys() and isinstance(line["epoch"], int)
    ]


def first_environment(folder: Path) -> dict[str, Any]:
    """Return what the first session ran on, which names the run: later ones resumed it."""
    if not folder.is_dir():
        raise UserError(f"{folder} was removed or renamed: choose another --out")
    if not (named := environments(folder)):
        raise UserError(f"{folder / 'environments.jsonl'} is damaged: choose another --out")
    return named[0]


def environments(folder: Path) -> list[dict[str, Any]]:
    """Return what each session ran on; lines that do not tell it are left out."""
    known = {"device", "versions", "commit", "command"}
    lines = read_lines(folder / "environments.jsonl")
    return [line for line in lines if known <= line.keys()]
