"""The default: scikit-learn's embedded handwritten digits, 8×8 pixels, no download.

Command   python -m experiments.train
Paper     none: a first look at Q-AGREL beside error-backpropagation. The dense network is smaller
          than the papers' and the batch is 16, so that it takes about a minute on 2 cores.
"""

from experiments.config import Config

config = Config(
    name="digits",
    dataset="digits",
    architecture="dense",
    hidden=(300, 200, 100),
    batch_size=16,
    epochs=40,
    patience=40,
    seeds=5,
)
