"""The papers' networks as Keras stores and computes them, in literal NumPy (float64).

A model is a list of layers ``(kind, name, weights, options)`` in Keras's order; layers without
weights are in the list and in the file, as Keras writes them.
"""

import h5py
import numpy as np


def draw(random, architecture, image_shape, num_actions):
    """Return a model with random weights: activity neither vanishes nor explodes."""
    layers, shape = [], image_shape
    counts = {}

    def add(kind, **options):
        nonlocal shape
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        name = f"{kind}_{number}" if number else kind  # as Keras names them
        weights = {}
        if kind in ("conv2d", "locally_connected2d"):
            height, width, channels = shape
            features, stride = options["features"], options.get("stride", 1)
            if kind == "conv2d":  # padding "same"
                height, width = -(-height // stride), -(-width // stride)
                size = (3, 3, channels, features)
            else:  # padding "valid"
                height, width = (height - 3) // stride + 1, (width - 3) // stride + 1
                size = (height * width, 9 * channels, features)
            weights["kernel"] = random.normal(0, np.sqrt(2 / (9 * channels)), size)
            shape = (height, width, features)
        elif kind == "batch_normalization":
            weights = {
                "gamma": random.uniform(0.5, 1.5, shape[-1]),
                "beta": random.normal(0, 0.3, shape[-1]),
                "moving_mean": random.normal(0.4, 0.2, shape[-1]),
                "moving_variance": random.uniform(0.2, 1.0, shape[-1]),
            }
        elif kind == "max_pooling2d":
            shape = (shape[0] // 2, shape[1] // 2, shape[2])
        elif kind == "flatten":
            shape = (int(np.prod(shape)),)
        elif kind == "dense":
            size = (shape[0], options["features"])
            weights["kernel"] = random.normal(0, np.sqrt(2 / shape[0]), size)
            shape = (options["features"],)
        layers.append((kind, name, weights, options))

    def convolution(kind, features, **options):
        add(kind, features=features, **options)
        add("activation")
        add("batch_normalization")

    match architecture:
        case "dense":
            add("flatten")
            sizes = (1500, 1000, 500)
        case "conv" | "locally_connected":
            kind = "conv2d" if architecture == "conv" else "locally_connected2d"
            convolution(kind, 32)
            convolution(kind, 32, stride=2)
            add("dropout")
            add("flatten")
            sizes = (500,)
        case "deep":
            for features, times in ((64, 2), (128, 2), (128, 3)):
                for _ in range(times):
                    convolution("conv2d", features)
                add("max_pooling2d")
                add("dropout")
            add("flatten")
            sizes = (500,)
    for size in sizes:
        add("dense", features=size)
        add("activation")
        add("dropout")
    add("dense", features=num_actions)
    return layers


def write(path, layers, whole_model=False):
    """Write the model as Keras does: groups by layer name, names of arrays in attributes."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if whole_model else file
        names = [name.encode() for _, name, _, _ in layers]
        if whole_model:  # as when the list outgrows one attribute
            half = len(names) // 2
            root.attrs["layer_names0"], root.attrs["layer_names1"] = names[:half], names[half:]
        else:
            root.attrs["layer_names"] = names
        for _, name, weights, _ in layers:
            group = root.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{w}:0".encode() for w in weights]
            for weight, array in weights.items():
                group.create_dataset(f"{name}/{weight}:0", data=array.astype(np.float32))


def forward(layers, images):
    """Compute the outputs for images [batch, height, width, channels], at test time."""
    x = np.asarray(images, np.float64)
    for kind, _, weights, options in layers:
        weights = {w: a.astype(np.float32).astype(np.float64) for w, a in weights.items()}
        match kind:
            case "conv2d":
                x = _convolve(x, weights["kernel"], options.get("stride", 1))
            case "locally_connected2d":
                x = _locally_connect(x, weights["kernel"], options.get("stride", 1))
            case "activation":
                x = np.maximum(x, 0)
            case "batch_normalization":
                deviation = np.sqrt(weights["moving_variance"] + 1e-3)
                x = (x - weights["moving_mean"]) / deviation * weights["gamma"] + weights["beta"]
            case "max_pooling2d":
                height, width = x.shape[1] // 2, x.shape[2] // 2
                x = np.stack(
                    [x[:, i : 2 * height : 2, j : 2 * width : 2] for i in (0, 1) for j in (0, 1)]
                ).max(0)
            case "flatten":
                x = x.reshape(len(x), -1)
            case "dense":
                x = x @ weights["kernel"]
    return x


def _convolve(x, kernel, stride):
    """3×3, padding "same": zeros so that the output is ⌈n/stride⌉, the odd one below or right."""
    pads = []
    for n in x.shape[1:3]:
        total = max((-(-n // stride) - 1) * stride + 3 - n, 0)
        pads.append((total // 2, total - total // 2))
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    height, width = ((n - 3) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((len(x), height, width, kernel.shape[-1]))
    for h in range(height):
        for w in range(width):
            patch = x[:, h * stride : h * stride + 3, w * stride : w * stride + 3]
            out[:, h, w] = np.tensordot(patch, kernel, 3)
    return out


def _locally_connect(x, kernel, stride):
    """3×3, padding "valid", the kernel of each output position by itself."""
    height, width = ((n - 3) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((len(x), height, width, kernel.shape[-1]))
    for h in range(height):
        for w in range(width):
            patch = x[:, h * stride : h * stride + 3, w * stride : w * stride + 3]
            out[:, h, w] = patch.reshape(len(x), -1) @ kernel[h * width + w]
    return out
