"""CIFAR-10, the `deep` network: the faithful recipe.

Paper     Pozzi, Bohté & Roelfsema (2018, 2020); recipe as in the authors' published code
Command   python -m experiments.train cifar10_deep
Published 88.88 % (0.27) after 105 (4) epochs, Q-AGREL, best epoch on the test set, 10 seeds
"""

from experiments.config import Config

config = Config(
    name="cifar10_deep",
    dataset="cifar10",
    architecture="deep",
    initialization="paper",
    protocol="paper",
    l2=5e-4,
)
