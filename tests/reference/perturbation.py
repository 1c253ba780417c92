"""Learning without feedback, one synapse at a time: dense ReLU layers, a linear output.

``kernels`` are [inputs, units] each; ``noise`` holds ξ [units] of every layer that is noisy.
"""

import numpy as np


def forward(kernels, x, noise=(), sd=0.0):
    """Return the activity of every layer, input first, and the input currents."""
    activities, currents = [x], []
    for depth, kernel in enumerate(kernels):
        current = [
            sum(activities[-1][i] * kernel[i, j] for i in range(kernel.shape[0]))
            for j in range(kernel.shape[1])
        ]
        if depth < len(noise):
            current = [a + sd * xi for a, xi in zip(current, noise[depth], strict=True)]
        currents.append(np.array(current))
        last = depth == len(kernels) - 1
        activities.append(currents[-1] if last else np.maximum(currents[-1], 0))
    return activities, currents


def outer(before, after):
    """Presynaptic activity × what the postsynaptic unit has."""
    return np.array([[b * a for a in after] for b in before])


def node_perturbation_change(kernels, x, noise, sd, action, reward):
    """Δw = −(Ẽ − E) x_i ξ_j / σ with E = ½(r − q_s)² (Werfel, Xie & Seung 2005)."""
    quiet, _ = forward(kernels, x)
    noisy, _ = forward(kernels, x, noise, sd)
    error = 0.5 * (reward - quiet[-1][action]) ** 2
    noisy_error = 0.5 * (reward - noisy[-1][action]) ** 2
    scalar = -(noisy_error - error) / sd
    return [scalar * outer(noisy[i], noise[i]) for i in range(len(kernels))]


def stochastic_units_change(kernels, x, noise, sd, action, reward):
    """Δw = (r − b) x_i ξ_j / σ in hidden layers, (r − b) y_j (1[k = s] − p_k) onto outputs."""
    quiet, _ = forward(kernels, x)
    noisy, _ = forward(kernels, x, noise, sd)
    q = np.exp(quiet[-1]) / np.exp(quiet[-1]).sum()
    scalar = reward - (q**2).sum()
    p = np.exp(noisy[-1]) / np.exp(noisy[-1]).sum()
    p[action] -= 1
    changes = [scalar / sd * outer(noisy[i], noise[i]) for i in range(len(kernels) - 1)]
    return [*changes, scalar * outer(noisy[-2], -p)]


def broadcast_change(kernels, x, strength, action, reward):
    """Δw = δ x_i c g_j in hidden layers, δ y_j onto the chosen output alone."""
    activities, currents = forward(kernels, x)
    delta = reward - activities[-1][action]
    gates = [strength * (current > 0) for current in currents[:-1]]
    gates.append(np.arange(len(currents[-1])) == action)
    return [delta * outer(activities[i], gates[i]) for i in range(len(kernels))]
