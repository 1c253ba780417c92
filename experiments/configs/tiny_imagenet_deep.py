"""Tiny ImageNet, 200 classes, 64×64, the `deep` network: the faithful recipe.

Paper     Pozzi, Bohté & Roelfsema (2018, 2020); recipe as in the authors' published code
Command   python -m experiments.train tiny_imagenet_deep
Published 47.50 % (1.30) after 328 (75) epochs, Q-AGREL, best epoch on the test set, 10 seeds
Data      a prepared folder `tiny_imagenet` in the data dir (it is no TFDS set by name)
"""

from experiments.config import Config

config = Config(
    name="tiny_imagenet_deep",
    dataset="tiny_imagenet",
    architecture="deep",
    initialization="paper",
    protocol="paper",
    l2=5e-4,
)
