"""What the project's README says of its second command: both rules on MNIST within minutes."""

from pathlib import Path

from experiments.common.significance import mean_sd
from experiments.reports import NOT_RUN, runs
from experiments.train import results as run_results
from experiments.train.results import CONTROL

FOLDER = "mnist_dense_he_8_epochs"
SLOW = "cells/mnist_dense/paper"


def section(results: Path) -> str:
    """Return where the command ended, and when the papers' initialization finds all classes."""
    run = run_results.read(results / FOLDER)
    slow = run_results.read(results / SLOW)
    if run is None or slow is None or not run.finished:
        return NOT_RUN
    ours, control = (mean_sd(100 * run.accuracy(rule)) for rule in (runs.RULE, CONTROL))
    last = slow.curves[runs.RULE][4].mean()
    epochs = slow.epochs_to(runs.RULE, slow.target(0.98))
    return (
        f"In {run.config.epochs} epochs, at the one that the validation images picked, the test "
        f"accuracy of Q-AGREL was {ours} %, of backprop {control} % (seed {runs.seeds(run)}, "
        f"{runs.devices(run)}, commit {runs.commits(run)}; "
        f"[details](experiments/results/{FOLDER}/README.md)). "
        "Without `--initialization he` the weights start from the papers' N(0, 0.01²). Q-AGREL "
        f"then discovers the ten digits one at a time: it has {100 * last:.1f} % after 5 epochs, "
        f"and reaches 98 % of backprop's accuracy after {mean_sd(epochs, 0)} epochs "
        f"({slow.config.seeds} seeds; [details](experiments/results/cells/README.md))."
    )
