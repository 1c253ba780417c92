"""Local learning, one synapse at a time (Pozzi, Bohté & Roelfsema 2018).

Nothing here knows of gradients. Activity goes up, feedback comes down through feedback weights of
its own, or directly from the outputs, and each synapse changes by presynaptic activity × (gate ×
feedback) of its postsynaptic unit.
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
      layers: as in ``feedback_change``.
      image: float array, the input activity.
      action: index of the chosen unit.
      reward: the reward that came.
      alpha: learning rate.
    """
    q_values = forward(layers, image)[0][-1]
    chosen = np.zeros_like(q_values)
    chosen[action] = 1.0
    delta = reward - q_values[action]
    return [alpha * delta * c for c in feedback_change(layers, image, chosen)], delta


def backprop_change(layers, image, label, alpha=1.0):
    """Return ΔW of each layer for one labeled example, and the cross-entropy."""
    logits = forward(layers, image)[0][-1]
    p = np.exp(logits) / np.exp(logits).sum()
    error = p.copy()
    error[label] -= 1
    return [-alpha * c for c in feedback_change(layers, image, error)], -np.log(p[label])


def feedback_change(layers, image, output_error):
    """Return presynaptic activity × gated feedback of each layer's synapses.

    Args:
      layers: list of {"kind", "kernel", "feedback", "stride", "padding"}, input to output. With
        "direct" [inputs, actions] instead of "feedback" the layer below hears the outputs alone.
      image: float array, the input activity.
      output_error: float[actions], what starts down from the output units.
    """
    activities, wirings = forward(layers, image)
    gated = output_error
    changes = [None] * len(layers)
    for depth in reversed(range(len(layers))):
        layer, below = layers[depth], activities[depth]
        change = np.zeros_like(layer["kernel"])
        feedback = np.zeros_like(below)
        for pre, post, weight in wirings[depth]:
            change[weight] += below[pre] * gated[post]
            if "direct" not in layer:
                feedback[pre] += layer["feedback"][weight] * gated[post]
        if "direct" in layer:
            for number, pre in enumerate(np.ndindex(below.shape)):
                for action, error in enumerate(output_error):
                    feedback[pre] += layer["direct"][number, action] * error
        changes[depth] = change
        if depth:
            units = activities[depth]
            gated = ((units > 0) * feedback).reshape(_shape_above(activities, depth, layers))
    return changes


def product_feedback(mixing, feedback_kernel):
    """Return B = C Mᵀ of each position: M [..., o, m], C [..., window and channels i, m]."""
    lead = mixing.ndim - 2
    down = np.zeros((*feedback_kernel.shape[:-1], mixing.shape[-2]))
    for index in np.ndindex(*down.shape):
        position, o = index[:lead], index[-1]
        for m in range(mixing.shape[-1]):
            down[index] += feedback_kernel[(*index[:-1], m)] * mixing[(*position, o, m)]
    return down


def product_change(mixing, change):
    """Return ΔC = ΔW M of each position: what xᵀ ȳ is, once ȳ has reached the extra units."""
    lead = mixing.ndim - 2
    result = np.zeros((*change.shape[:-1], mixing.shape[-1]))
    for index in np.ndindex(*change.shape):
        for m in range(mixing.shape[-1]):
            result[(*index[:-1], m)] += change[index] * mixing[(*index[:lead], index[-1], m)]
    return result


def _shape_above(activities, depth, layers):
    """Undo the flattening in front of a dense layer."""
    below_layer = layers[depth - 1]
    if below_layer["kind"] == "dense":
        return activities[depth].shape
    _, shape = synapses(below_layer, activities[depth - 1].shape)
    return shape
