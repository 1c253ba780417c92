"""The default: scikit-learn's embedded handwritten digits, 8×8 pixels, no download.

Command   python -m experiments.train
Paper     none; a first look at Q-AGREL beside error-backpropagation
"""

from experiments.config import Config

config = Config(
    name="digits",
    dataset="digits",
    architecture="dense",
    batch_size=32,
    epochs=30,
    seeds=5,
)
