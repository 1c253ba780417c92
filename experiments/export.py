"""Write a trained network of a run as one plain file: parameters and where they come from.

    python -m experiments.export runs/digits-... net.npz
    python -m experiments.export runs/digits-... net.safetensors --rule backprop --seed 3

The parameters are those of the epoch that the run's protocol picked. Read them with
`qagrel_jax.load_network("net.npz")`, or with NumPy or safetensors alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import config as configs
from experiments.common import cli
from experiments.common.cli import UserError
from experiments.train import folder as run_folder

Q_RULES = ("q_agrel", "broadcast", "node_perturbation")
"""Rules whose outputs predict rewards."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, read the checkpoint, write the file."""
    parser = cli.Parser(prog="python -m experiments.export", description=__doc__)
    parser.add_argument("run", type=cli.path, metavar="RUN", help="folder of a run")
    parser.add_argument("file", type=cli.path, metavar="FILE", help="a .npz or .safetensors file")
    parser.add_argument("--rule", metavar="NAME", help="default: the run's first")
    parser.add_argument(
        "--seed", type=cli.number(int, 0, 2**31), metavar="N", help="default: the run's first"
    )
    parser.add_argument("--overwrite", action="store_true", help="FILE, if it is there")
    arguments = parser.parse_args(argv)
    if arguments.file.suffix not in (".npz", ".safetensors"):
        raise UserError(f"{arguments.file.name!r} must end in .npz or .safetensors")
    if arguments.file.exists() and not arguments.overwrite:
        raise UserError(f"{arguments.file} is there: give another name, or --overwrite")
    variables, metadata = best(arguments.run, arguments.rule, arguments.seed)

    from qagrel_jax.weights import files as interchange

    try:
        interchange.save(arguments.file, variables, metadata)
    except (ValueError, ImportError) as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(f"cannot write {arguments.file}: {error.strerror}") from None
    accuracy = 100 * metadata["monitored_accuracy"]
    print(
        f"{arguments.file}: {metadata['rule']}, seed {metadata['seed']}, epoch "
        f"{metadata['epoch']}, monitored accuracy {accuracy:.2f} %"
    )


def best(
    folder: Path, rule: str | None = None, seed: int | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return one network of a run at its best epoch: ``(variables, metadata)``.

    Raises:
      UserError: no run, no such rule or seed in it, a checkpoint missing or damaged.
    """
    configs.check_run(folder)
    config = configs.saved(folder)
    rule = rule or config.rules[0]
    if rule not in config.rules:
        raise UserError(f"{folder}: {cli.unknown('rule', rule, config.rules)}")
    seed = config.first_seed if seed is None else seed
    last = config.first_seed + config.seeds - 1
    if not config.first_seed <= seed <= last:
        raise UserError(f"{folder} has no seed {seed}; valid: {config.first_seed} to {last}")

    import qagrel_jax

    path = run_folder.checkpoint(folder, rule)
    variables, epoch, accuracy = _read(path, rule, seed - config.first_seed)
    network = {
        "architecture": config.architecture,
        "num_actions": _num_actions(variables["params"]),
        "feedback": config.feedback,
        "initialization": config.initialization,
        "feedback_init": config.feedback_init,
        "feedback_scale": config.feedback_scale,
    }
    if config.precision == "bfloat16":
        network["dtype"] = config.precision
    if config.hidden is not None:
        network["hidden"] = list(config.hidden)
    return variables, {
        "qagrel_jax": qagrel_jax.__version__,
        "network": network,
        "inputs": f"images of {config.dataset}, float [batch, height, width, channels], / 255",
        "outputs": "Q values" if rule in Q_RULES else "logits",
        "rule": rule,
        "seed": seed,
        "epoch": epoch,
        "monitored_accuracy": accuracy,
        "protocol": config.protocol,
        "commit": run_folder.saved_session(folder, rule, seed).get("commit"),
        "config": configs.to_json(config),
    }


def _read(path: Path, rule: str, row: int) -> tuple[dict[str, Any], int, float]:
    """Return one network of a checkpoint at its best epoch: variables, epoch, accuracy."""
    import flax.serialization
    import jax

    from experiments.common import saved
    from qagrel_jax.training import checkpoints

    if not path.is_file():
        raise UserError(f"{path} does not exist: has {rule} finished an epoch?")
    instead = "copy it again, or give another run"
    with saved.explained(path, instead):
        content, metadata = checkpoints.read(path)
    if metadata is not None and metadata.get("rule") != rule:
        raise UserError(f"{path} is of the rule {metadata.get('rule')}")
    try:
        run = flax.serialization.msgpack_restore(content)
        learner = jax.tree.map(lambda array: array[row], run["best"])
        variables = {"params": learner["params"], **learner["model_state"]}
        return variables, int(run["best_epoch"][row]), float(run["best_accuracy"][row])
    except Exception as error:
        raise UserError(f"{path} is damaged ({error}); {instead}") from None


def _num_actions(params: dict[str, Any]) -> int:
    dense = [name for name in params if name.startswith("Dense_")]
    output = max(dense, key=lambda name: int(name.removeprefix("Dense_")))
    return int(params[output]["kernel"].shape[-1])


if __name__ == "__main__":
    cli.run(main)
