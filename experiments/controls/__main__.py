"""Controls: what happens to Q-AGREL when something is taken away, swept or replaced.

    python -m experiments.controls                     # all of them on the digits
    python -m experiments.controls reward feedback     # these
    python -m experiments.controls fast --seeds 5 --out DIR
    python -m experiments.controls --resume --out DIR  # resume after a crash

Each control trains its settings (``experiments/controls/catalogue.py``) one after the other,
several seeds each, under the clean protocol, and leaves in DIR/NAME: plan.json (--seeds and
--epochs), settings.jsonl (a line a setting, with its learning curves), summary.json, picture.png
(and angles.png). A setting that was killed resumes at its last checkpoint, at most a few minutes
old.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.common import cli, files, folders
from experiments.common.cli import UserError
from experiments.controls import catalogue, settings
from experiments.controls.settings import Control

LINES = "settings.jsonl"
PLAN = "plan.json"
MARKERS = (PLAN, "environments.jsonl", LINES)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, then train every setting of every control asked for."""
    arguments = _parser().parse_args(argv)
    folders.check_resume(arguments.resume, arguments.out)
    out = arguments.out or folders.default("controls")
    plans = _plans(arguments, out)
    if arguments.resume and not any((out / name / PLAN).is_file() for name in plans):
        if not (arguments.names or arguments.seeds or arguments.epochs):
            raise UserError(
                f"{out} holds no controls to resume: check --out, or name those to start"
            )
        print(f"{out} holds no controls yet: starting them", file=sys.stderr)
    controls = {name: catalogue.load(name, **plan) for name, plan in plans.items()}
    valid = catalogue.names()
    with folders.explained(out):
        if out.is_dir() and any(path.name not in valid for path in folders.visible(out)):
            raise UserError(f"{out} holds files that are no controls: choose another --out")
    load = functools.cache(functools.partial(_load, data_dir=arguments.data_dir))
    with cli.resumable("controls", out), contextlib.ExitStack() as locks:
        with contextlib.ExitStack() as beginnings:
            for name in controls:
                folders.claim(beginnings, locks, out / name, MARKERS, arguments.resume)
            done = {name: _lines_done(out / name, controls[name]) for name in controls}
            for name, plan in plans.items():
                files.write_json(out / name / PLAN, plan)
            for control in controls.values():  # what is missing is told before anything is trained
                for setting in control.settings:
                    load(setting.config.dataset)
        for name, control in controls.items():  # from here on the plans of all stay
            with folders.explained(out / name, resumable=True):
                run(out / name, name, control, done[name], load)


def run(
    folder: Path,
    name: str,
    control: Control,
    lines: list[dict[str, Any]],
    load: Callable[[str], Any],
) -> dict[str, Any]:
    """Train the settings of ``control`` that ``lines`` lacks; return the summary, also written.

    Args:
      folder: of the control.
      name: of the control.
      control: its settings.
      lines: of the settings that are done; others are added.
      load: ``name of a data set -> Dataset``.
    """
    from experiments.common import provenance
    from experiments.common.progress import Reporter
    from experiments.controls import plots, summary
    from experiments.controls import run as controls_run
    from experiments.controls.unfinished import Unfinished

    environment = provenance.environment()
    files.append_line(folder / "environments.jsonl", environment)
    first = files.first_environment(folder)
    planned = [setting.label for setting in control.settings]

    def write() -> dict[str, Any]:
        content = summary.summarize(name, control.question, lines, planned) | first
        files.write_json(folder / "summary.json", content)
        return content

    keep = Unfinished(folder)
    with Reporter(name, len(planned)) as reporter:
        for number, setting in enumerate(control.settings):
            if any(line["label"] == setting.label for line in lines):
                continue
            dataset = load(setting.config.dataset)

            def on_epoch(epoch: int, state: str, number: int = number, setting=setting) -> None:
                share = number + epoch / setting.config.epochs
                reporter.update(share, f"{setting.label}: epoch {epoch}, {state}")

            reporter.update(number, f"{setting.label}: compiling")
            try:
                line = controls_run.train(setting, dataset, control.measure_angles, on_epoch, keep)
            except ValueError as error:
                raise UserError(f"{setting.label}: {error}") from None
            line |= {key: environment[key] for key in ("commit", "device")}
            files.append_line(folder / LINES, line)
            lines.append(line)
            keep.clear()
            write()
        reporter.finish("", "done")
    content = write()
    plots.draw(folder / "picture.png", control, lines)
    summary.print_table(content)
    print(f"everything is in {folder}")
    return content


def _load(name: str, data_dir: str | None) -> Any:
    from qagrel_jax import data

    try:
        return data.load(name, data_dir)
    except ValueError as error:
        raise UserError(str(error)) from None


def _plans(arguments: Any, out: Path) -> dict[str, dict[str, int | None]]:
    """Return the number of seeds and of epochs (None: its own) of every control to run.

    A run that is resumed is what it was, but for what the command line says.

    Raises:
      UserError: a plan there that is damaged.
    """
    given = {key: getattr(arguments, key) for key in ("seeds", "epochs")}
    there = {}
    for name in catalogue.names() if arguments.resume else []:
        plan = files.read_json(out / name / PLAN)
        if plan is None:
            continue
        whole = all(value is None or type(value) is int for value in plan.values())
        if plan.keys() != given.keys() or not whole:
            raise UserError(f"{out / name / PLAN} is damaged: move {out / name} away")
        there[name] = plan
    asked = {key: value for key, value in given.items() if value is not None}
    names = arguments.names or list(there) or _default_names()
    return {name: there.get(name, given) | asked for name in names}


def _lines_done(folder: Path, control: Control) -> list[dict[str, Any]]:
    """Return the lines of the settings that ``folder``, which is ours, has done.

    Raises:
      UserError: it was run with other settings, or a line is damaged.
    """
    path = folder / LINES
    lines = files.read_lines(path)
    wanted = {s.label: settings.identity(s) for s in control.settings}
    for line in lines:
        try:
            same = wanted.get(line["label"]) == settings.identity_of_line(line)
            whole = {"diverged", "validation_accuracy", "seeds", "classes", "x"} <= line.keys()
        except (KeyError, TypeError, UserError) as error:
            raise UserError(f"{path} is damaged ({error}): move {folder} away") from None
        if not same or not whole:
            raise UserError(
                f"{folder} was run with other settings ({line['label']!r} differs): leave --seeds "
                "and --epochs as they were, or choose another --out"
            )
    # A line that a kill cut off must not stay in the way of the next one.
    if path.exists():
        files.write_lines(path, lines)
    return lines


def _default_names() -> list[str]:
    return [n for n in catalogue.names() if n not in catalogue.NEED_DATA]


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m experiments.controls", description=__doc__)
    valid = catalogue.names()
    parser.add_argument(
        "names",
        nargs="*",
        type=cli.one_of("control", valid),
        metavar="NAME",
        help=f"{', '.join(valid)}; default: all but those that need other data than the digits "
        f"({', '.join(catalogue.NEED_DATA)})",
    )
    parser.add_argument(
        "--seeds",
        type=cli.number(int, 1, 10**6),
        metavar="N",
        help="networks a setting (default: the control's own)",
    )
    parser.add_argument(
        "--epochs",
        type=cli.number(int, 1, 10**6),
        metavar="N",
        help="of training (default: the control's own)",
    )
    folders.add_options(parser, "controls", resume=True)
    cli.add_data_dir(parser)
    return parser


if __name__ == "__main__":
    cli.run(main)
