"""``python -m experiments.working_memory``: AuGMEnT networks that learn a working-memory task."""
