"""MNIST, the `dense` network, with the settings of `digits_fast` instead of the faithful recipe.

Command   python -m experiments.train mnist_dense_fast
Paper     none; the faithful recipe is `mnist_dense`. He initialization with a small output, Adam
          0.001, softmax policy at T = 0.1, clean protocol.
Chosen by `python -m experiments.controls fast` on the digits and checked with a small network on a
          fifth of MNIST by `python -m experiments.controls fast_mnist`; not tuned on this network.
"""

from experiments.config import Config

config = Config(
    name="mnist_dense_fast",
    dataset="mnist",
    architecture="dense",
    policy="softmax",
    temperature=0.1,
    optimizer="adam",
    learning_rate=0.001,
    epochs=100,
    patience=20,
    seeds=3,
)
