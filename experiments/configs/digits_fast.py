"""The digits again, with the settings that brought Q-AGREL's learning time nearest to backprop's.

Command   python -m experiments.train digits_fast
Paper     none. In place of SGD 0.1 and max-Boltzmann: Adam 0.001 and a softmax policy at T = 0.1.
          Adam keeps the size of every synapse's own recent changes, which is local to the synapse;
          the softmax explores while all Q values are alike and stops by itself once one stands out.
Chosen by `python -m experiments.controls fast`: the fewest epochs to a criterion of validation
          accuracy; the table of all that was tried, with what did not help and a setting as fast,
          is in experiments/results/controls/README.md.
"""

from experiments.config import Config

config = Config(
    name="digits_fast",
    dataset="digits",
    architecture="dense",
    hidden=(300, 200, 100),
    policy="softmax",
    temperature=0.1,
    optimizer="adam",
    learning_rate=0.001,
    batch_size=16,
    epochs=20,
    patience=40,
    seeds=5,
)
