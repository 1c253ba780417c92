"""``python -m experiments.memory_speed``: the speed of AuGMEnT populations, beside plain NumPy."""
