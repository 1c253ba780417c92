"""``python -m experiments.reproduce``: the papers' matrix, resumable."""
