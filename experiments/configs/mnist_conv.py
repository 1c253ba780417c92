"""MNIST, the `conv` network: the faithful recipe.

Paper     Pozzi, Bohté & Roelfsema (2018, 2020); recipe as in the authors' published code
Command   python -m experiments.train mnist_conv
Published 99.31 % (0.04) after 63 (18) epochs, Q-AGREL, best epoch on the test set, 10 seeds
"""

from experiments.config import Config

config = Config(
    name="mnist_conv",
    dataset="mnist",
    architecture="conv",
    initialization="paper",
    protocol="paper",
)
