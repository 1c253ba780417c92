"""CIFAR-10, the `locally_connected` network: the faithful recipe.

Paper     Pozzi, Bohté & Roelfsema (2018, 2020); recipe as in the authors' published code
Command   python -m experiments.train cifar10_locally_connected
Published not known to us
"""

from experiments.config import Config

config = Config(
    name="cifar10_locally_connected",
    dataset="cifar10",
    architecture="locally_connected",
    initialization="paper",
    protocol="paper",
    batch_size=32,
)
