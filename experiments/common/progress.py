"""Live progress on stderr: bars on a terminal, now and then a line in a log."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10


class Reporter:
    """Shows how far one long piece of work is; use as a context manager."""

    def __init__(self, title: str, total: float) -> None:
        self._title, self._total = title, total
        self._last_line = float("-inf")
        console = Console(file=sys.stderr)
        self._bars = None
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[state]}"),
                TimeRemainingColumn(),
            )
            self._bars = Progress(*columns, console=console)
            self._task = self._bars.add_task(title, total=total, state="compiling")

    def __enter__(self) -> "Reporter":
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def update(self, done: float, state: str, important: bool = False) -> None:
        """Show that ``done`` of the total is done; ``important`` lines are never held back."""
        if self._bars:
            self._bars.update(self._task, completed=done, state=state)
            return
        now = time.monotonic()
        if important or now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            print(
                f"{self._title}  {done:.4g}/{self._total:g}  {state}", file=sys.stderr, flush=True
            )
