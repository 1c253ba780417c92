"""the first 100 classes of Tiny ImageNet, 32×32, the `conv` network: the faithful recipe.

Paper     Pozzi, Bohté & Roelfsema (2018, 2020); recipe as in the authors' published code
Command   python -m experiments.train tiny_imagenet100_conv
Published none: 100 classes of Tiny ImageNet at 32×32, not comparable with CIFAR-100
"""

from experiments.config import Config

config = Config(
    name="tiny_imagenet100_conv",
    dataset="tiny_imagenet100",
    architecture="conv",
    initialization="paper",
    protocol="paper",
)
