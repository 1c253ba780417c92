"""The learning criterion with lists and loops: windows, shaping levels, frozen test."""

from collections import deque


class Learner:
    """Counts the trials of one network and says when it has learned."""

    def __init__(
        self,
        conditions,
        windows,
        accuracy,
        max_trials,
        test_allowed=(),
        test_repeats=1,
        retest_after=1,
        consecutive=0,
    ):
        self.windows, self.accuracy, self.max_trials = windows, accuracy, max_trials
        self.groups = [[allowed, test_repeats] for allowed in test_allowed]
        self.retest_after, self.conditions = retest_after, conditions
        self.consecutive, self.responses = consecutive, []
        self.status, self.trials, self.level, self.next_test = "training", 0, 0, 0
        self.tests, self.passed = 0, [0] * len(windows)
        self.clear()

    def clear(self):
        self.outcomes = [deque(maxlen=self.windows[self.level]) for _ in range(self.conditions)]

    def trial(self, correct, condition, responses=None):
        """Take note of a trial that ended, with all its responses if it had several."""
        if self.status == "testing":
            self.tested(correct)
        elif self.status == "training":
            self.trials += 1
            self.outcomes[condition].append(correct)
            self.responses += [correct] if responses is None else responses
            last = self.responses[-self.consecutive :] if self.consecutive else []
            window = self.windows[self.level]
            good = all(
                len(o) == window and sum(o) >= self.accuracy * window - 1e-9 for o in self.outcomes
            )
            good = good and len(last) == self.consecutive and all(last)
            if good and self.trials >= self.next_test:
                if self.level + 1 < len(self.windows):
                    self.passed[self.level] = self.trials
                    self.level += 1
                    self.clear()
                elif self.groups:
                    self.status = "testing"
                    self.tests += 1
                    self.to_do = [list(group) for group in self.groups]
                else:
                    self.converge()
            if self.status == "training" and self.trials >= self.max_trials:
                self.status = "gave up"

    def tested(self, correct):
        group = self.to_do[0]
        group[0] -= not correct
        group[1] -= 1
        if group[0] < 0:
            self.status = "training" if self.trials < self.max_trials else "gave up"
            self.next_test = self.trials + self.retest_after
        elif group[1] == 0:
            self.to_do.pop(0)
            if not self.to_do:
                self.converge()

    def converge(self):
        self.status = "converged"
        self.passed[self.level] = self.trials
