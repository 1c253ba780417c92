"""Scripts a person runs: train, reproduce, measure, report."""

import sys

from experiments.common import interrupts

# So it is while Python looks for the module of ``python -m experiments.NAME``.
if sys.argv[:1] == ["-m"] and any(word.startswith("experiments.") for word in sys.orig_argv):
    interrupts.end_at_once()
