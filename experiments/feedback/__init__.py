"""``python -m experiments.feedback``: kinds of feedback pathway, by network and rule."""
