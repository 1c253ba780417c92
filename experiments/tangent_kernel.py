"""How fast can a network learn? The neural tangent kernel of the networks of finished runs.

    python -m experiments.tangent_kernel runs/RUN
    python -m experiments.tangent_kernel runs/ONE runs/ANOTHER --images 512 --out DIR

Of every rule and seed of each run, at its best epoch and before it learned: the mean over images of
K = ‖∂q_s/∂w‖², the squared gradient of the greedy output (``qagrel_jax.analysis.tangent_kernel``).
One image's update changes that output by learning rate · error · K. Rules whose outputs are logits
are measured alike. A table is printed; DIR gets tangent_kernel.json, if it is interrupted with the
runs that were finished.
"""

import contextlib
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments import config as configs
from experiments import export
from experiments.common import cli, console, display, files, folders, provenance
from experiments.common.cli import UserError
from experiments.train import folder as run_folder

FILE = "tangent_kernel.json"
IMAGES = 256
SHOWN = ("epoch", "output", "before", "kernel")


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, measure every run, print a table."""
    parser = cli.Parser(prog="python -m experiments.tangent_kernel", description=__doc__)
    parser.add_argument("runs", nargs="+", type=cli.path, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--images",
        type=cli.number(int, 1, 10**6),
        default=IMAGES,
        metavar="N",
        help=f"the first so many test images (default: {IMAGES})",
    )
    parser.add_argument(
        "--out",
        type=cli.path,
        metavar="DIR",
        help="where the figures go (default: they are only printed)",
    )
    cli.add_data_dir(parser)
    arguments = parser.parse_args(argv)
    for folder in arguments.runs:
        configs.check_run(folder)
    with contextlib.ExitStack() as stack:
        if arguments.out:
            stack.enter_context(cli.keeping(arguments.out / FILE))
            stack.enter_context(folders.claimed(arguments.out))
        _measure_all(arguments)


def _measure_all(arguments: Any) -> None:
    from experiments.common import provenance

    environment = provenance.environment()
    for folder in arguments.runs:  # before hours of work on others
        _check(folder)
    lines: list[dict[str, Any]] = []
    for folder, name in zip(arguments.runs, _told(arguments.runs), strict=True):
        found = measure(folder, arguments.images, arguments.data_dir)
        lines += [{**line, "run": name} for line in found]
        if arguments.out:
            content = {**environment, "images": arguments.images, "runs": lines}
            files.write_json(arguments.out / FILE, content)
    _print(lines)
    if arguments.out:
        print(f"written to {arguments.out / FILE}")


def _check(folder: Path) -> None:
    """Raise ``UserError`` unless every network of the run can be read."""
    config = configs.saved(folder)
    for rule in config.rules:
        export.best(folder, rule, config.first_seed + config.seeds - 1)  # few seeds lack the last


def _told(folders_: Sequence[Path]) -> list[str]:
    """Return the folders' names, or of those with the name of another the paths, as given."""
    names = [folder.name for folder in folders_]
    return [
        name if name and names.count(name) == 1 else str(folder)
        for name, folder in zip(names, folders_, strict=True)
    ]


def measure(folder: Path, images: int, data_dir: str | None = None) -> list[dict[str, Any]]:
    """Measure the networks of one run; a JSON-ready line a rule, of it an entry a seed.

    Raises:
      UserError: a run without a checkpoint, or of data that are not there.
    """
    import jax
    import jax.numpy as jnp

    from experiments.train import build
    from qagrel_jax import data
    from qagrel_jax.random_keys import root_keys
    from qagrel_jax.tasks import classification

    config = configs.saved(folder)
    try:
        dataset = data.load(config.dataset, data_dir)
    except ValueError as error:
        raise UserError(str(error)) from None
    provenance.check_arrays(files.environments(folder), dataset, config.dataset, folder)
    inputs = classification.normalize(jnp.asarray(dataset.test_images[:images]))
    measured = _measurement(build.build_network(config, dataset.num_classes), inputs)
    splits = build.make_splits(dataset, config)
    trainer = build.make_trainer(config, config.rules[0], dataset, splits)
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    before: dict[int, float | None] = {}
    for seed in seeds:  # of all rules: they start from the same weights
        state = trainer.init(root_keys(jnp.array([seed])))
        state = jax.tree.map(lambda x: x[0], state)
        before[seed] = None
        # With running statistics that have seen nothing BatchNorm does not do what it does in
        # training.
        if "batch_stats" not in state.model_state:
            layers, _ = measured({"params": state.params, **state.model_state})
            before[seed] = _short(sum(layers.values()))
    lines = []
    for rule in config.rules:
        networks = []
        for seed in seeds:
            variables, metadata = export.best(folder, rule, seed)
            layers, output = measured(variables)
            networks.append(
                {
                    "seed": seed,
                    "epoch": metadata["epoch"],
                    "accuracy": metadata["monitored_accuracy"],
                    "output": _short(output),
                    "before": before[seed],
                    "kernel": _short(sum(layers.values())),
                    "layers": {name: _short(value) for name, value in layers.items()},
                }
            )
        began = run_folder.saved_session(folder, rule)
        origin = {key: began.get(key) for key in ("command", "commit")}
        lines.append({"run": folder.name, "rule": rule, **origin, "networks": networks})
    return lines


def _measurement(network: Any, inputs: Any) -> Callable:
    """Return ``variables -> (kernel by layer, greedy output)``, both means over the images."""
    import jax

    from qagrel_jax import analysis

    tied = network.clone(feedback="tied", feedback_scale=1.0)

    @jax.jit
    def measured(variables: Any) -> Any:
        fixed = {name: value for name, value in variables.items() if name != "params"}

        def forward(params: Any, images: Any) -> Any:
            return tied.apply({"params": params, **fixed}, images)

        kernel = analysis.tangent_kernel(forward, variables["params"], inputs)
        output = forward(variables["params"], inputs).max(axis=-1).mean()
        return {name: values.mean() for name, values in kernel.items()}, output

    return measured


def _short(value: Any) -> float:
    return float(f"{float(value):.5g}")


def _print(lines: list[dict[str, Any]]) -> None:
    rows = [
        [line["run"], display.shown(line["rule"]), *(shown(mean(line, name)) for name in SHOWN)]
        for line in lines
    ]
    headings = ("run", "rule", "epoch", "greedy\noutput", "K before\nlearning", "K")
    console.table("mean of the seeds", headings, rows)


def mean(line: dict[str, Any], name: str) -> float:
    """Return the mean over the seeds of what ``measure`` found; NaN where it was not measured."""
    values = [network[name] for network in line["networks"]]
    return float("nan") if None in values else statistics.fmean(values)


def shown(value: float) -> str:
    """Return three digits, or a whole number; of NaN a dash.

    >>> shown(0.03759), shown(2161.3)
    ('0.0376', '2,161')
    """
    if math.isnan(value):
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


if __name__ == "__main__":
    cli.run(main)
