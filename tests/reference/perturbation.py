"""Learning without feedback, one synapse at a time: ReLU layers, a linear output.

``layers`` are as in ``local_learning``, input to output; a kernel [inputs, units] alone is a dense
layer. ``noise`` holds ξ, of the shape of the layer, of every layer that is noisy.
"""

import numpy as np

from tests.reference.local_learning import synapses


def forward(layers, x, noise=(), sd=0.0):
    """Return the activity of every layer, input first, the input currents and the synapses."""
    activities, currents, wirings = [x], [], []
    for depth, layer in enumerate(map(_described, layers)):
        if layer["kind"] == "dense":
            activities[-1] = activities[-1].reshape(-1)
        wiring, shape = synapses(layer, activities[-1].shape)
        current = np.zeros(shape)
        for pre, post, weight in wiring:
            current[post] += layer["kernel"][weight] * activities[-1][pre]
        if depth < len(noise):
            current = current + sd * noise[depth]
        currents.append(current)
        activities.append(current if depth == len(layers) - 1 else np.maximum(current, 0))
        wirings.append(wiring)
    return activities, currents, wirings


def products(layer, wiring, before, after):
    """Presynaptic activity × what the postsynaptic unit has, summed where a weight is shared."""
    result = np.zeros(_described(layer)["kernel"].shape)
    for pre, post, weight in wiring:
        result[weight] += before[pre] * after[post]
    return result


def node_perturbation_change(layers, x, noise, sd, action, reward):
    """Δw = −(Ẽ − E) x_i ξ_j / σ with E = ½(r − q_s)² (Werfel, Xie & Seung 2005)."""
    quiet, _, _ = forward(layers, x)
    noisy, _, wirings = forward(layers, x, noise, sd)
    error = 0.5 * (reward - quiet[-1][action]) ** 2
    noisy_error = 0.5 * (reward - noisy[-1][action]) ** 2
    scalar = -(noisy_error - error) / sd
    return [
        scalar * products(layer, wiring, before, xi)
        for layer, wiring, before, xi in zip(layers, wirings, noisy[:-1], noise, strict=True)
    ]


def stochastic_units_change(layers, x, noise, sd, action, reward):
    """Δw = (r − b) x_i ξ_j / σ in hidden layers, (r − b) y_j (1[k = s] − p_k) onto outputs."""
    quiet, _, _ = forward(layers, x)
    noisy, _, wirings = forward(layers, x, noise, sd)
    q = np.exp(quiet[-1]) / np.exp(quiet[-1]).sum()
    scalar = reward - (q**2).sum()
    p = np.exp(noisy[-1]) / np.exp(noisy[-1]).sum()
    p[action] -= 1
    after = [*(xi / sd for xi in noise), -p]
    return [
        scalar * products(layer, wiring, before, units)
        for layer, wiring, before, units in zip(layers, wirings, noisy[:-1], after, strict=True)
    ]


def broadcast_change(layers, x, strength, action, reward):
    """Δw = δ x_i c g_j in hidden layers, δ y_j onto the chosen output alone."""
    activities, currents, wirings = forward(layers, x)
    delta = reward - activities[-1][action]
    gates = [strength * (current > 0) for current in currents[:-1]]
    gates.append(np.arange(len(currents[-1])) == action)
    return [
        delta * products(layer, wiring, before, gate)
        for layer, wiring, before, gate in zip(layers, wirings, activities[:-1], gates, strict=True)
    ]


def _described(layer):
    return layer if isinstance(layer, dict) else {"kind": "dense", "kernel": layer}
