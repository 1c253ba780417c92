"""Q-AGREL's local equations, one synapse at a time (Pozzi, Bohté & Roelfsema 2018).

Nothing here knows of gradients. Activity goes up, attention feedback comes down through feedback
weights of its own, and each synapse changes by α δ × presynaptic activity × (gate × feedback) of
its postsynaptic unit.
"""

import itertools

import numpy as np


def dense_synapses(n_in, n_out):
    """Yield (presynaptic unit, postsynaptic unit, index of the weight) of a dense layer."""
    for i, j in itertools.product(range(n_in), range(n_out)):
        yield (i,), (j,), (i, j)


def image_synapses(in_shape, out_shape, window, stride, offset, shared):
    """Yield the synapses of a convolutional (``shared``) or locally connected layer."""
    height, width, channels = in_shape
    for h, w, o in np.ndindex(*out_shape):
        for r, s, c in np.ndindex(*window, channels):
            y, x = h * stride + r - offset, w * stride + s - offset
            if 0 <= y < height and 0 <= x < width:
                weight = (r, s, c, o) if shared else (h, w, r, s, c, o)
                yield (y, x, c), (h, w, o), weight


def same_offset(n, window, stride):
    """Zeros before the first pixel under "SAME" padding."""
    out = -(-n // stride)
    return max((out - 1) * stride + window - n, 0) // 2


def synapses(layer, in_shape):
    """List a layer's synapses and its output shape."""
    kernel = layer["kernel"]
    if layer["kind"] == "dense":
        n_in, n_out = kernel.shape
        return list(dense_synapses(n_in, n_out)), (n_out,)
    shared = layer["kind"] == "conv"
    window = kernel.shape[:2] if shared else kernel.shape[2:4]
    stride, n = layer["stride"], in_shape[0]
    if layer["padding"] == "SAME":
        offset, out = same_offset(n, window[0], stride), -(-n // stride)
    else:
        offset, out = 0, (n - window[0]) // stride + 1
    out_shape = (out, out, kernel.shape[-1])
    return list(image_synapses(in_shape, out_shape, window, stride, offset, shared)), out_shape


def forward(layers, image):
    """Return the activity of every layer, input first: ReLU units, a linear output."""
    activities, wirings = [image], []
    for depth, layer in enumerate(layers):
        below = activities[-1]
        if layer["kind"] == "dense":
            below = activities[-1] = below.reshape(-1)
        wiring, shape = synapses(layer, below.shape)
        drive = np.zeros(shape)
        for pre, post, weight in wiring:
            drive[post] += layer["kernel"][weight] * below[pre]
        is_output = depth == len(layers) - 1
        activities.append(drive if is_output else np.maximum(drive, 0))
        wirings.append(wiring)
    return activities, wirings


def q_agrel_change(layers, image, action, reward, alpha=1.0):
    """Return ΔW of each layer for one trial, and δ.

    Args:
      layers: list of {"kind", "kernel", "feedback", "stride", "padding"}, input to output.
      image: float array, the input activity.
      action: index of the chosen unit.
      reward: the reward that came.
      alpha: learning rate.
    """
    activities, wirings = forward(layers, image)
    delta = reward - activities[-1][action]
    gated = np.zeros_like(activities[-1])
    gated[action] = 1.0
    changes = [None] * len(layers)
    for depth in reversed(range(len(layers))):
        layer, below = layers[depth], activities[depth]
        change = np.zeros_like(layer["kernel"])
        feedback = np.zeros_like(below)
        for pre, post, weight in wirings[depth]:
            change[weight] += alpha * delta * below[pre] * gated[post]
            feedback[pre] += layer["feedback"][weight] * gated[post]
        changes[depth] = change
        if depth:
            units = activities[depth]
            gated = ((units > 0) * feedback).reshape(_shape_above(activities, depth, layers))
    return changes, delta


def _shape_above(activities, depth, layers):
    """Undo the flattening in front of a dense layer."""
    below_layer = layers[depth - 1]
    if below_layer["kind"] == "dense":
        return activities[depth].shape
    _, shape = synapses(below_layer, activities[depth - 1].shape)
    return shape
