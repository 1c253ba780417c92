"""Scripts a person runs: train, reproduce, measure, report."""
