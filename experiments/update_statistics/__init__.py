"""``python -m experiments.update_statistics``: bias and variance of one update, rule by rule."""
