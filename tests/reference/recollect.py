"""RECOLLECT as printed (van den Berg, Roelfsema & Bohte 2024): one network, in loops."""

import math

import numpy as np


class Recollect:
    """A network that sees, acts, learns and tags, one synapse at a time."""

    def __init__(self, gate, candidate, q, feedback=None, **parameters):
        """Take [1 + inputs, memory], the same again, [1 + memory, actions]; row 0 is the bias."""
        self.W_g, self.W_c, self.W_q = (np.array(w, dtype=float) for w in (gate, candidate, q))
        self.back = None if feedback is None else np.array(feedback, dtype=float)
        default = {
            "beta": 0.1,
            "beta_g": 0.06,
            "lam": 0.4,
            "gamma": 0.9,
            "theta": 0.0,
            "s": 2.0,
            "corrected": False,
        }
        self.p = default | parameters
        self.tag_g, self.tag_c, self.tag_q = (
            np.zeros_like(w) for w in (self.W_g, self.W_c, self.W_q)
        )
        self.e_g, self.e_c = np.zeros_like(self.W_g), np.zeros_like(self.W_c)
        self.y = np.zeros(self.W_g.shape[1])
        self.q_previous = 0.0

    def sigma(self, u):
        return 1 / (1 + math.exp(self.p["theta"] - self.p["s"] * u))

    def forward(self, x):
        """Return q after looking at x; keeps the activities for ``learn``."""
        self.x = [1.0, *x]
        self.before = self.y.copy()
        self.g, self.c = np.zeros_like(self.y), np.zeros_like(self.y)
        for m in range(len(self.y)):
            self.g[m] = self.sigma(sum(w * x for w, x in zip(self.W_g[:, m], self.x, strict=True)))
            self.c[m] = self.sigma(sum(w * x for w, x in zip(self.W_c[:, m], self.x, strict=True)))
            self.y[m] = self.g[m] * self.before[m] + (1 - self.g[m]) * self.c[m]
        self.h = [1.0, *self.y]
        actions = range(self.W_q.shape[1])
        self.q = [sum(w * h for w, h in zip(self.W_q[:, a], self.h, strict=True)) for a in actions]
        return np.array(self.q)

    def learn(self, action, reward):
        """Do everything that follows the choice of ``action``; return δ."""
        p = self.p
        delta = reward + p["gamma"] * self.q[action] - self.q_previous

        self.W_q += p["beta"] * delta * self.tag_q
        self.W_c += p["beta"] * delta * self.tag_c
        self.W_g += p["beta_g"] * delta * self.tag_g
        if self.back is not None:
            self.back += p["beta"] * delta * self.tag_q[1:]

        slope = p["s"] if p["corrected"] else 1.0
        for m, (g, c) in enumerate(zip(self.g, self.c, strict=True)):
            for i, x in enumerate(self.x):
                self.e_c[i, m] = g * self.e_c[i, m] + (1 - g) * x * slope * c * (1 - c)
                change = (self.before[m] - c) * x * slope * g * (1 - g)
                self.e_g[i, m] = g * self.e_g[i, m] + change

        for tag in (self.tag_q, self.tag_c, self.tag_g):
            tag *= p["lam"] * p["gamma"]
        for j, h in enumerate(self.h):
            self.tag_q[j, action] += h
        for m in range(len(self.y)):
            w = self.W_q[1 + m, action] if self.back is None else self.back[m, action]
            for i in range(len(self.x)):
                self.tag_c[i, m] += self.e_c[i, m] * w
                self.tag_g[i, m] += self.e_g[i, m] * w
        self.q_previous = self.q[action]
        return delta
