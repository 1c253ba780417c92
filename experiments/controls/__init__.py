"""``python -m experiments.controls``: what happens when something is taken away, or swept."""
