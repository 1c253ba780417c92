"""CIFAR-100, the `deep` network: the faithful recipe.

Paper     Pozzi, Bohté & Roelfsema (2018, 2020); recipe as in the authors' published code
Command   python -m experiments.train cifar100_deep
Published 59.58 % (0.46) after 218 (22) epochs, Q-AGREL, best epoch on the test set, 10 seeds
"""

from experiments.config import Config

config = Config(
    name="cifar100_deep",
    dataset="cifar100",
    architecture="deep",
    initialization="paper",
    protocol="paper",
    l2=5e-4,
)
