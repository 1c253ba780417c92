"""``python -m experiments.agrel``: AGREL against error-backpropagation, trials to criterion."""
