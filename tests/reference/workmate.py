"""WorkMATe as printed (Kruijne, Bohte, Roelfsema & Olivers 2021): one network, in loops."""

import math

import numpy as np


class Workmate:
    """A network that sees, acts, gates, learns and tags, one synapse at a time."""

    def __init__(self, inputs, memory, q, projection, actions, feedback=None, **parameters):
        """Take [1 + x + blocks, h], [S, h], [1 + h, actions + blocks + 1] and [x, S]."""
        self.W_x, self.W_S, self.W_q, self.P = (
            np.array(w, dtype=float) for w in (inputs, memory, q, projection)
        )
        self.back = None if feedback is None else np.array(feedback, dtype=float)
        default = {"beta": 0.15, "lam": 0.8, "gamma": 0.9, "theta": 2.5, "cells": 20}
        self.p = default | parameters
        self.actions, self.blocks = actions, self.W_q.shape[1] - actions - 1
        self.reset()
        self.q_previous = 0.0

    def reset(self):
        """Forget all but the weights."""
        self.tag_x, self.tag_S, self.tag_q = (
            np.zeros_like(w) for w in (self.W_x, self.W_S, self.W_q)
        )
        self.S, self.t = np.zeros(self.P.shape[1]), 0

    def block(self, k):
        """Return the numbers of the units of block k."""
        size = len(self.S) // self.blocks
        return range(k * size, (k + 1) * size)

    def forward(self, observation):
        """Return all Q values after a look; keeps the activities for ``learn``."""
        cells = [
            {0: 1, 1: 0.5, 2: 0.25, 3: 0.1}.get(abs(j - self.t), 0) for j in range(self.p["cells"])
        ]
        self.x = [*observation, *cells]
        self.new = [
            sum(p * x for p, x in zip(self.P[:, i], self.x, strict=True))
            for i in range(len(self.S))
        ]
        self.match = []
        for k in range(self.blocks):
            apart = [abs(self.new[i] - self.S[i]) for i in self.block(k)]
            self.match.append(1 - sum(apart) / len(apart))
        self.seen = [1.0, *self.x, *self.match]
        self.h = []
        for j in range(self.W_x.shape[1]):
            drive = sum(w * x for w, x in zip(self.W_x[:, j], self.seen, strict=True))
            drive += sum(w * s for w, s in zip(self.W_S[:, j], self.S, strict=True))
            self.h.append(1 / (1 + math.exp(self.p["theta"] - drive)))
        hidden = [1.0, *self.h]
        units = range(self.W_q.shape[1])
        self.q = [sum(w * h for w, h in zip(self.W_q[:, u], hidden, strict=True)) for u in units]
        return np.array(self.q)

    def learn(self, action, gate, reward, ended):
        """Do everything that follows the choices; return δ."""
        p, chosen = self.p, [action, self.actions + gate]
        value = 0.0 if ended else sum(self.q[unit] for unit in chosen)
        delta = reward + p["gamma"] * value - self.q_previous
        for weights, tag in (
            (self.W_x, self.tag_x),
            (self.W_S, self.tag_S),
            (self.W_q, self.tag_q),
        ):
            weights += p["beta"] * delta * tag
        if self.back is not None:
            self.back += p["beta"] * delta * self.tag_q[1:]
        self.q_previous = value
        if ended:
            self.reset()
            return delta

        for tag in (self.tag_x, self.tag_S, self.tag_q):
            tag *= p["lam"] * p["gamma"]
        for unit in chosen:
            self.tag_q[0, unit] += 1
            for j, h in enumerate(self.h):
                self.tag_q[1 + j, unit] += h
                back = self.W_q[1 + j, unit] if self.back is None else self.back[j, unit]
                for i, x in enumerate(self.seen):
                    self.tag_x[i, j] += x * h * (1 - h) * back
                for i, s in enumerate(self.S):
                    self.tag_S[i, j] += s * h * (1 - h) * back
        if gate < self.blocks:
            for i in self.block(gate):
                self.S[i] = self.new[i]
        self.t += 1
        return delta
