"""Live progress on stderr: bars on a terminal, now and then a line in a log."""

import sys
import time
from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from experiments.common import interrupts

SECONDS_BETWEEN_LINES = 10


class Reporter:
    """Shows how far one long piece of work is; use as a context manager."""

    def __init__(self, title: str, total: float) -> None:
        self._title, self._total = title, total
        self._last_line = float("-inf")
        console = Console(file=sys.stderr)
        self._bars = _Bars(console) if console.is_terminal else None
        if self._bars:
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
        interrupts.check()
        if self._bars:
            self._bars.update(self._task, completed=done, state=state)
            return
        if important or time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._print(f"{_number(done)}/{_number(self._total)}", state)

    def finish(self, done: str, state: str) -> None:
        """Show that all is done, though it may have been less than the total: the bar is full."""
        if self._bars:
            text = f"{done}, {state}" if done else state
            self._bars.update(self._task, completed=self._total, state=text)
        else:
            self._print(done or f"{_number(self._total)}/{_number(self._total)}", state)

    def _print(self, done: str, state: str) -> None:
        self._last_line = time.monotonic()
        print(f"{self._title}  {done}  {state}", file=sys.stderr, flush=True)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"


class _Bars(Progress):
    """A line with the bar and the time left, and below it the current state, however long."""

    def __init__(self, console: Console) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            expand=True,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            yield self.make_tasks_table([task])
            yield Text(f"  {task.fields['state']}")
