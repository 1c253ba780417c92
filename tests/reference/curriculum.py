"""The class curriculum, literally: one learner, one batch after another, plain Python."""


class Curriculum:
    """When classes come and how often an image of each is shown."""

    def __init__(self, threshold, initial, step, window, recency, decay, max_wait, turns):
        self.threshold, self.step_classes, self.window = threshold, step, window
        self.recency, self.decay, self.max_wait = recency, decay, max_wait
        self.waiting = sorted(range(len(turns)), key=lambda c: turns[c])
        # The classes that came together, the first ones first.
        self.came = [[self.waiting.pop(0) for _ in range(min(initial, len(turns)))]]
        self.over = not self.waiting
        self.batches, self.last, self.seen = 0, 0, []

    def weight(self, label):
        """How often an image of ``label`` is shown; 0: never."""
        for age, together in enumerate(reversed(self.came)):
            if label in together:
                return 1 + self.recency * self.decay**age
        return 0.0

    def batch(self, labels, right, explored):
        """Count a batch of choices, right or wrong, those that were free."""
        self.batches += 1
        for label, good, forced in zip(labels, right, explored, strict=True):
            if not forced:
                self.seen.append((label, good))
        if self.batches % self.window:
            return
        of_newest = [good for label, good in self.seen if label in self.came[-1]]
        of_all = [good for _, good in self.seen]
        passed = all(x and sum(x) >= self.threshold * len(x) for x in (of_all, of_newest))
        if passed or (self.max_wait and self.batches - self.last >= self.max_wait):
            if self.waiting:
                more = min(self.step_classes, len(self.waiting))
                self.came.append([self.waiting.pop(0) for _ in range(more)])
                self.last = self.batches
            else:
                self.over = True
        self.seen = []
