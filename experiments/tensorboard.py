"""A run's metrics for TensorBoard, beside its JSON lines; no TensorFlow needed.

    python -m experiments.train --tensorboard ...     # while training
    python -m experiments.tensorboard runs/digits-... # of a run that is there already
    tensorboard --logdir runs                         # view; from `pip install tensorboard`

Event files are written to RUN/tensorboard/RULE/seed_N. They are made from `metrics.jsonl` alone and
anew each time, so a resumed run shows every epoch once.
"""

import importlib.util
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from experiments import config as configs
from experiments.common import cli, files
from experiments.common.cli import UserError

SECONDS = 2.0
"""How often a running experiment is looked at."""


def main(argv: Sequence[str] | None = None) -> None:
    """Write the event files of a run."""
    parser = cli.Parser(prog="python -m experiments.tensorboard", description=__doc__)
    parser.add_argument("run", type=cli.path, metavar="RUN", help="folder of a run")
    folder = parser.parse_args(argv).run
    configs.check_run(folder)
    with Mirror(folder) as mirror:
        if not mirror.claim():
            raise UserError(f"the training in {folder} keeps its event files up to date itself")
        if not (count := mirror.update()):
            raise UserError(
                f"{folder / 'metrics.jsonl'} is missing, empty or damaged: copy it again, or "
                "train on"
            )
        print(f"{count} scalars in {folder / 'tensorboard'}")


def check() -> None:
    """Raise ``UserError`` if tensorboardX is missing."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise UserError("TensorBoard files need tensorboardX: pip install -e '.[tensorboard]'")


@contextmanager
def following(folder: Path, wanted: bool) -> Iterator[None]:
    """Keep the event files of the run in ``folder`` up to date; do nothing unless ``wanted``.

    The run need not have begun.

    Raises:
      UserError: tensorboardX is missing.
    """
    if not wanted:
        yield
        return
    with Mirror(folder) as mirror:
        done = threading.Event()

        def follow() -> None:
            while not done.wait(SECONDS):
                mirror.update()

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            mirror.update()


class Mirror:
    """Writes what is new in ``metrics.jsonl``, one process at a time; use as a context manager."""

    def __init__(self, folder: Path) -> None:
        check()
        from tensorboardX import SummaryWriter

        self._folder, self._make = folder, SummaryWriter
        self._writers: dict[str, Any] = {}
        self._written: set[tuple[str, int]] = set()
        # The thread that follows a run and the one that writes its end share the lock.
        self._lock = filelock.FileLock(
            folder / ".tensorboard.lock", blocking=False, thread_local=False
        )

    def __enter__(self) -> "Mirror":
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            writer.close()
        self._lock.release()

    def claim(self) -> bool:
        """Take the event files for this process; say whether they are its own."""
        if not self._lock.is_locked:
            with suppress(filelock.Timeout):
                self._lock.acquire()
        return self._lock.is_locked

    def update(self) -> int:
        """Write the epochs not written yet; return how many numbers that was.

        None without a run, or while another process writes them.
        """
        if not configs.holds_run(self._folder) or not self.claim():
            return 0
        lines = files.read_metrics(self._folder)
        if not lines:  # what was made of it before stays
            return 0
        if not self._written:
            shutil.rmtree(self._folder / "tensorboard", ignore_errors=True)
        first_seed = configs.saved(self._folder).first_seed
        count = 0
        for line in lines:
            # A resumed run repeats its last epochs to the byte.
            if (line["rule"], line["epoch"]) in self._written:
                continue
            self._written.add((line["rule"], line["epoch"]))
            for tag, values in _scalars(line):
                for row, value in enumerate(values):
                    if value is not None:
                        writer = self._writer(f"{line['rule']}/seed_{first_seed + row}")
                        writer.add_scalar(tag, value, line["epoch"])
                        count += 1
        for writer in self._writers.values():
            writer.flush()
        return count

    def _writer(self, name: str) -> Any:
        if name not in self._writers:
            self._writers[name] = self._make(str(self._folder / "tensorboard" / name))
        return self._writers[name]


def _scalars(line: dict[str, Any]) -> Iterator[tuple[str, list[float | None]]]:
    """Yield ``(tag, a value a seed)``."""
    for name in (
        "validation_accuracy",
        "test_accuracy",
        "train_accuracy",
        "error",
        "classes_learned",
    ):
        if name in line:
            yield name, line[name]
    for name in ("feedback_angle_degrees", "update_angle_degrees", "update_norm_ratio"):
        for layer, values in line.get(name, {}).items():
            yield f"{name}/{layer}", values


if __name__ == "__main__":
    cli.run(main)
