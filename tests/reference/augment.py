"""AuGMEnT as printed (Rombouts, Bohte & Roelfsema 2015), in NumPy, for many networks at once.

The networks' axis comes first; otherwise one line an equation, in the order of a step. ``dt``, as
a fraction of the step, is for the variant in shorter steps.
"""

import numpy as np


class Augment:
    """Networks that see, act, learn and tag."""

    def __init__(self, v_regular, v_memory, w_regular, w_memory, feedback=None, **parameters):
        """Take float arrays [networks, …]; row 0 of ``v_regular`` and ``w_regular`` is the bias."""
        self.V_R, self.V_M = v_regular.copy(), v_memory.copy()
        self.W_R, self.W_M = w_regular.copy(), w_memory.copy()
        self.back = None if feedback is None else [f.copy() for f in feedback]
        self.p = (
            dict(beta=0.15, lam=0.2, gamma=0.9, theta=2.5, leak=1.0, dt=1.0, bias=1) | parameters
        )
        self.tags = [np.zeros_like(w) for w in (self.V_R, self.V_M, self.W_R, self.W_M)]
        networks, twice_inputs, memory = v_memory.shape
        self.trace = np.zeros((networks, twice_inputs, memory))
        self.S = np.zeros((networks, memory))
        self.x = np.zeros((networks, twice_inputs // 2))
        self.q_previous = np.zeros(networks)

    @property
    def weights(self):
        return self.V_R, self.V_M, self.W_R, self.W_M

    def sigma(self, u):
        return 1 / (1 + np.exp(self.p["theta"] - u))

    def forward(self, x):
        """Return q after looking at x; keeps the activities for ``learn``."""
        one = np.full((len(x), 1), self.p["bias"])
        up, down = np.maximum(x - self.x, 0), np.maximum(self.x - x, 0)
        self.x_prime = np.concatenate([up, down], axis=1)
        self.x_bias = np.concatenate([one, x], axis=1)
        self.y_R = self.sigma(np.einsum("ni,nij->nj", self.x_bias, self.V_R))
        self.S = self.p["leak"] * self.S + np.einsum("nl,nlm->nm", self.x_prime, self.V_M)
        self.y_M = self.sigma(self.S)
        self.h = np.concatenate([one, self.y_R], axis=1)
        self.q = np.einsum("nj,nja->na", self.h, self.W_R)
        self.q = self.q + np.einsum("nm,nma->na", self.y_M, self.W_M)
        self.x = x.copy()
        return self.q

    def learn(self, action, reward, ended):
        """Do everything that follows the choice of ``action``; return δ."""
        n = np.arange(len(action))
        q_a = np.where(ended, 0, self.q[n, action])
        dt = self.p["dt"]
        delta = reward + self.p["gamma"] ** dt * q_a - self.q_previous

        step = (self.p["beta"] * delta)[:, None, None]
        self.V_R += step * self.tags[0]
        self.V_M += step * self.tags[1]
        self.W_R += step * self.tags[2]
        self.W_M += step * self.tags[3]
        if self.back is not None:
            self.back[0] += step * self.tags[2][:, 1:]
            self.back[1] += step * self.tags[3]

        self.trace = self.p["leak"] * self.trace + self.x_prime[:, :, None]
        self.tags = [(self.p["lam"] * self.p["gamma"]) ** dt * tag for tag in self.tags]
        back_R, back_M = self.back if self.back is not None else (self.W_R[:, 1:], self.W_M)
        slope_R, slope_M = self.y_R * (1 - self.y_R), self.y_M * (1 - self.y_M)
        to_regular = slope_R * back_R[n, :, action]
        to_memory = slope_M * back_M[n, :, action]
        self.tags[0] += dt * self.x_bias[:, :, None] * to_regular[:, None, :]
        self.tags[1] += dt * self.trace * to_memory[:, None, :]
        self.tags[2][n, :, action] += dt * self.h
        self.tags[3][n, :, action] += dt * self.y_M
        self.q_previous = q_a

        for state in (*self.tags, self.trace, self.S, self.x, self.q_previous):
            state[ended] = 0
        return delta
