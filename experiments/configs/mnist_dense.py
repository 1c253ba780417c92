"""MNIST, the `dense` network: the faithful recipe.

Paper     Pozzi, Bohté & Roelfsema (2018, 2020); recipe as in the authors' published code
Command   python -m experiments.train mnist_dense
Published 98.68 % (sd 0.07), Q-AGREL, best epoch on the test set, 10 seeds
"""

from experiments.config import Config

config = Config(
    name="mnist_dense",
    dataset="mnist",
    architecture="dense",
    initialization="paper",
    protocol="paper",
)
