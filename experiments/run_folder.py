"""The folder of one run: it never mixes two runs, and survives a crash at any moment.

=========================  ======================================================================
``config.json``            what is run
``metrics.jsonl``          a line an epoch and rule; the same bytes whenever the run is repeated
``timings.jsonl``          wall-clock figures of the same epochs
``checkpoint_RULE.msgpack`` everything it takes to go on with that rule; replaced as a whole
``summary.json``           results, once all rules are done
``learning_curves.png``    the picture
=========================  ======================================================================
"""

import json
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp

from experiments import config as configs
from experiments import files
from experiments.cli import UserError
from experiments.config import Config
from qagrel_jax import sharding


def holds_run(folder: Path) -> bool:
    """Whether ``folder`` holds a run, finished or not."""
    return (folder / "config.json").is_file()


def saved_config(folder: Path) -> Config:
    """Return the configuration of the run in ``folder``; ``UserError`` if it cannot be read."""
    path = folder / "config.json"
    try:
        return configs.from_json(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def claim(folder: Path, config: Config, resume: bool) -> None:
    """Make ``folder`` the run of ``config``, or check that it is already.

    Raises:
      UserError: it holds another run, or files that are no run, or cannot be written.
    """
    if holds_run(folder):
        if not resume:
            raise UserError(f"{folder} holds another run: add --resume to go on with it, or "
                            "choose another --out")  # fmt: skip
        saved, wanted = configs.to_json(saved_config(folder)), configs.to_json(config)
        different = [key for key in wanted if saved.get(key) != wanted[key]]
        if different:
            listed = ", ".join(f"{k} {saved.get(k)!r} there, {wanted[k]!r} here" for k in different)
            raise UserError(f"{folder} was started with a different config ({listed}): leave "
                            "these options out to resume, or choose another --out")  # fmt: skip
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A start killed before its config was whole leaves only such a temporary file.
        if any(not p.name.endswith(".tmp") for p in folder.iterdir()):
            raise UserError(f"{folder} holds files that are no run: choose another --out")
        files.write_json(folder / "config.json", configs.to_json(config))
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}; choose another --out"
        ) from None


def save_checkpoint(path: Path, tree: Any) -> None:
    """Write a pytree of arrays and keys to ``path``, whole or not at all."""
    files.write_bytes(path, flax.serialization.to_bytes(sharding.fetch(_raw_keys(tree))))


def load_checkpoint(path: Path, template: Any) -> Any | None:
    """Read what ``save_checkpoint`` wrote into the shape of ``template``; None if there is none.

    Raises:
      UserError: the file is damaged or of another shape.
    """
    if not path.is_file():
        return None
    try:
        raw = flax.serialization.from_bytes(_raw_keys(template), path.read_bytes())
    except Exception as error:
        raise UserError(f"{path} is damaged ({error}): delete it to start this rule anew") from None
    return jax.tree.map(_like, template, raw)


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Add one JSON line to ``path``."""
    with path.open("a") as file:
        file.write(json.dumps(content, allow_nan=False) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole JSON lines of ``path``; a last line cut off by a crash is left out."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def cut_lines(path: Path, rule: str, epoch: int) -> None:
    """Drop the lines of ``rule`` after ``epoch``: a resumed run writes them again."""
    kept = [line for line in read_lines(path) if line["rule"] != rule or line["epoch"] <= epoch]
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in kept)
    files.write_bytes(path, text.encode())


def _raw_keys(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def _like(template: Any, raw: Any) -> Any:
    return jax.random.wrap_key_data(jnp.asarray(raw)) if _is_key(template) else jnp.asarray(raw)


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
