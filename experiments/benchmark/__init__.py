"""``python -m experiments.benchmark``: the speed of training, beside backprop and PyTorch."""
