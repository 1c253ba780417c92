"""MNIST, the `conv` network, with the settings of `digits_fast` instead of the faithful recipe.

Command   python -m experiments.train mnist_conv_fast
Paper     none; the faithful recipe is `mnist_conv`. He initialization with a small output, Adam
          0.001, softmax policy at T = 0.1, clean protocol.
Chosen by `python -m experiments.controls fast` on the digits; `python -m experiments.controls
          fast_conv` compares initializations and learning rates of this network, on the digits too.
"""

from experiments.config import Config

config = Config(
    name="mnist_conv_fast",
    dataset="mnist",
    architecture="conv",
    policy="softmax",
    temperature=0.1,
    optimizer="adam",
    learning_rate=0.001,
    epochs=100,
    patience=20,
    seeds=3,
)
