"""RELEARNN's three phases, unit by unit and synapse by synapse (Mollard, Bohté & Roelfsema 2024).

A network of one recurrent group: h_j ← max(0, Σ_i x_i v_ij + Σ_i h_i w_ij), q_a = Σ_j h_j u_ja.
Attention comes down through weights of its own. Nothing here knows of gradients.
"""

import numpy as np


def settle(weights, x, steps):
    """Phase 1: the activity after ``steps`` steps from rest, and the last step's largest change."""
    v, w = weights["v"], weights["w"]
    inputs, units = v.shape
    h = np.zeros(units)
    for _ in range(steps):
        new = np.zeros(units)
        for j in range(units):
            drive = sum(x[i] * v[i, j] for i in range(inputs))
            drive += sum(h[i] * w[i, j] for i in range(units))
            new[j] = max(0.0, drive)
        change = max(abs(new[j] - h[j]) for j in range(units))
        h = new
    return h, change


def values(weights, h):
    """Return Q values."""
    u = weights["u"]
    return np.array([sum(h[j] * u[j, a] for j in range(len(h))) for a in range(u.shape[1])])


def is_driven(weights, x, h, j):
    """Say whether unit j is above its threshold, so that attention and plasticity pass its gate."""
    drive = sum(x[i] * weights["v"][i, j] for i in range(len(x)))
    drive += sum(h[i] * weights["w"][i, j] for i in range(len(h)))
    return drive > 0


def attend(weights, feedback, x, h, action, sweeps):
    """Phase 2: the accessory network's activity after ``sweeps`` sweeps from the chosen output."""
    units = len(h)
    gate = [float(is_driven(weights, x, h, j)) for j in range(units)]
    source = [feedback["u"][j, action] for j in range(units)]
    z = list(source)
    for _ in range(sweeps):
        z = [
            source[i] + sum(feedback["w"][i, j] * gate[j] * z[j] for j in range(units))
            for i in range(units)
        ]
    return np.array(z)


def change(
    weights, feedback, x, action, reward, *, steps, sweeps, clip=None, scale=None, alpha=1.0
):
    """Phase 3: return ΔW of every weight for one trial, and δ; ``scale`` has factors by layer."""
    h, _ = settle(weights, x, steps)
    z = attend(weights, feedback, x, h, action, sweeps)
    delta = reward - values(weights, h)[action]
    changes = {name: np.zeros_like(w) for name, w in weights.items()}

    def plastic(trace, layer):
        trace *= 1.0 if scale is None else scale[layer]
        return alpha * delta * (trace if clip is None else min(clip, max(-clip, trace)))

    for j in range(len(h)):
        changes["u"][j, action] = plastic(h[j], "u")
        if is_driven(weights, x, h, j):
            for i in range(len(x)):
                changes["v"][i, j] = plastic(x[i] * z[j], "v")
            for i in range(len(h)):
                changes["w"][i, j] = plastic(h[i] * z[j], "w")
    return changes, delta
