"""``python -m experiments.curve_tracing``: recurrent networks that learn to trace curves."""
