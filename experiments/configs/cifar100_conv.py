"""CIFAR-100, the `conv` network: the faithful recipe.

Paper     Pozzi, Bohté & Roelfsema (2018, 2020); recipe as in the authors' published code
Command   python -m experiments.train cifar100_conv
Published not known to us
"""

from experiments.config import Config

config = Config(
    name="cifar100_conv",
    dataset="cifar100",
    architecture="conv",
    initialization="paper",
    protocol="paper",
)
