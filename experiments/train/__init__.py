"""``python -m experiments.train``: train Q-AGREL and its control on images."""
