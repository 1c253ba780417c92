"""Convolutions and their CPU form: held against XLA's own convolution, values and derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from qagrel_jax.layers import convolution, patches, windows, winograd
from qagrel_jax.layers.convolution import _convolve_on_cpu, locally_connect
from qagrel_jax.layers.windows import output_size
from qagrel_jax.networks import make_network
from tests.combinations import every_value

CASES = [
    # image, window, strides, padding
    ((8, 6), (3, 3), (1, 1), "SAME"),
    ((7, 7), (3, 3), (1, 1), "SAME"),
    ((8, 5), (3, 3), (2, 2), "SAME"),
    ((8, 11), (3, 3), (1, 2), "SAME"),
    ((8, 5), (2, 4), (2, 1), "SAME"),
    ((7, 7), (3, 3), (1, 1), "VALID"),
    ((8, 5), (3, 3), (2, 2), "VALID"),
    ((8, 8), (2, 4), (3, 3), "VALID"),
]


def _inputs(shape, window, strides, padding, channels=3, features=4, batch=2):
    x_key, w_key, g_key = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(x_key, (batch, *shape, channels), jnp.float64)
    kernel = jax.random.normal(w_key, (*window, channels, features), jnp.float64)
    out = jax.eval_shape(lambda x, w: _native(x, w, strides, padding), images, kernel)
    return images, kernel, jax.random.normal(g_key, out.shape, jnp.float64)


def _native(x, w, strides, padding):
    return lax.conv_general_dilated(
        x, w, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


WAYS = {
    "few channels": (3, {}),
    "few channels of large images": (3, {(convolution, "MOST_NUMBERS"): 1}),
    "many channels": (8, {}),
    "many channels, image by image": (8, {(patches, "CACHED_NUMBERS"): 1}),
    "many channels and features": (8, {(convolution, "WIDE"): 4}),
    "Winograd": (8, {(winograd, "MANY"): 4}),
    "Winograd, image by image": (8, {(winograd, "MANY"): 4, (winograd, "CACHED_NUMBERS"): 1}),
}


@pytest.mark.slow
def test_the_gradient_of_many_images_in_half_precision_is_summed_in_float32():
    """In bfloat16 a sum of ones stops at 256."""
    images, kernel = jnp.ones((401, 4, 4, 8)), jnp.ones((3, 3, 8, 8))

    def gradient(dtype):
        wrap = functools.partial(convolution.convolve, strides=(1, 1), padding="SAME")
        outputs, back = jax.vjp(lambda w: wrap(images.astype(dtype), w), kernel.astype(dtype))
        (found,) = back(jnp.ones_like(outputs))
        assert found.dtype == dtype
        return found.astype(jnp.float32)

    assert gradient(jnp.float32)[1, 1, 0, 0] == 401 * 16
    for dtype in (jnp.bfloat16, jnp.float16):
        np.testing.assert_allclose(gradient(dtype), gradient(jnp.float32), rtol=0.004)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("case", "way"), every_value(CASES, WAYS))
def test_the_form_for_cpu_equals_the_native_convolution(case, way, monkeypatch):
    channels, limits = WAYS[way]
    for (module, name), value in limits.items():
        monkeypatch.setattr(module, name, value)
    _compare_with_the_native_one(case, channels)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("size", "padding"), [((5, 8), "SAME"), ((6, 9), "VALID")])
def test_winograds_tiles_cover_images_that_are_wider_than_high(size, padding, monkeypatch):
    monkeypatch.setattr(winograd, "MANY", 4)
    monkeypatch.setattr(winograd, "LARGE", 1)
    _compare_with_the_native_one((size, (3, 3), (1, 1), padding), 8)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_convolutions_of_random_shapes_equal_the_native_one(monkeypatch):
    draw = np.random.default_rng(0).integers
    for _ in range(300):
        monkeypatch.setattr(winograd, "MANY", draw(1, 8))
        monkeypatch.setattr(winograd, "LARGE", draw(1, 8))
        monkeypatch.setattr(convolution, "WIDE", draw(1, 16))
        monkeypatch.setattr(winograd, "CACHED_NUMBERS", draw(1, 20_000))
        monkeypatch.setattr(patches, "CACHED_NUMBERS", draw(1, 20_000))
        window = (3, 3) if draw(2) else tuple(draw(1, 5, size=2).tolist())
        strides = (1, 1) if draw(2) else tuple(draw(1, 4, size=2).tolist())
        shape = tuple(draw(window, 12).tolist())
        channels, features, batch = draw(1, 12, size=3).tolist()
        case = shape, window, strides, ("SAME", "VALID")[draw(2)]
        _compare_with_the_native_one(case, channels, features, batch)


def _compare_with_the_native_one(case, *sizes):
    _, _, strides, padding = case
    images, kernel, cotangent = _inputs(*case, *sizes)

    @functools.partial(jax.jit, static_argnums=0)
    def value_and_derivatives(convolve, images, kernel):
        out, back = jax.vjp(lambda x, w: convolve(x, w, strides, padding), images, kernel)
        return out, *back(cotangent)

    ours = value_and_derivatives(_convolve_on_cpu, images, kernel)
    native = value_and_derivatives(_native, images, kernel)
    for mine, reference in zip(ours, native, strict=True):
        np.testing.assert_allclose(mine, reference, atol=1e-12, err_msg=f"{case} {sizes}")


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "kernel, strides, out, dtype, ours",
    [
        ((3, 3, 32, 64), (1, 1), (8, 8), jnp.float32, True),
        ((3, 3, 32, 64), (1, 1), (8, 6), jnp.float64, True),
        ((3, 3, 64, 16), (1, 1), (32, 32), jnp.float32, False),
        ((3, 3, 64, 64), (2, 1), (32, 32), jnp.float32, False),
        ((3, 3, 64, 64), (1, 2), (32, 32), jnp.float32, False),
        ((3, 5, 64, 64), (1, 1), (32, 32), jnp.float32, False),
        ((3, 3, 64, 64), (1, 1), (32, 32), jnp.bfloat16, False),
        ((3, 3, 64, 64), (1, 1), (32, 4), jnp.float32, False),
    ],
)
def test_winograd_is_for_wide_layers_with_windows_of_three_by_three(
    kernel, strides, out, dtype, ours
):
    images = jnp.zeros((1, *out, kernel[2]), dtype)

    @jax.make_jaxpr
    def program(images, kernel):
        return _convolve_on_cpu(images, kernel, strides, "SAME")

    transformed = "optimization_barrier" in str(program(images, jnp.zeros(kernel, dtype)))
    assert transformed == ours


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equal_kernels_everywhere_make_a_convolution(case):
    _, window, strides, padding = case
    images, kernel, cotangent = _inputs(*case)
    rows, columns = cotangent.shape[1:3]
    one = kernel.reshape(1, 1, -1, 4)
    everywhere = jnp.broadcast_to(one, (rows, columns, *one.shape[2:]))
    unshared = locally_connect(images, everywhere, window, strides, padding)
    np.testing.assert_allclose(unshared, _native(images, kernel, strides, padding), atol=1e-12)


def _unshared_by_hand(images, kernels, cotangent, window, strides):
    """Position by position: the outputs, and what comes back to the images and to the kernels."""
    batch, *size, channels = images.shape
    out = kernels.shape[:2]
    missing = [
        max((o - 1) * s + w - n, 0) for o, s, w, n in zip(out, strides, window, size, strict=True)
    ]
    top, left = (m // 2 for m in missing)
    pads = (top, missing[0] - top), (left, missing[1] - left)
    padded = np.pad(images, ((0, 0), *pads, (0, 0)))
    outputs, onto_images = np.zeros(cotangent.shape), np.zeros(padded.shape)
    onto_kernels = np.zeros(kernels.shape)
    for h, w in np.ndindex(*out):
        rows, columns = (
            slice(i * s, i * s + n) for i, s, n in zip((h, w), strides, window, strict=True)
        )
        patch = padded[:, rows, columns].reshape(batch, -1)
        outputs[:, h, w] = patch @ kernels[h, w]
        down = cotangent[:, h, w] @ kernels[h, w].T
        onto_images[:, rows, columns] += down.reshape(batch, *window, channels)
        onto_kernels[h, w] = patch.T @ cotangent[:, h, w]
    onto_images = onto_images[:, top : top + size[0], left : left + size[1]]
    return outputs, onto_images, onto_kernels


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_position_has_its_own_kernel(case):
    _, window, strides, padding = case
    images, kernel, cotangent = map(np.asarray, _inputs(*case))
    shape = (*cotangent.shape[1:3], kernel[..., 0].size, 4)
    kernels = np.random.default_rng(0).normal(size=shape)

    @jax.jit
    def value_and_derivatives(images, kernels):
        out, back = jax.vjp(
            lambda x, w: locally_connect(x, w, window, strides, padding), images, kernels
        )
        return out, *back(jnp.asarray(cotangent))

    ours = value_and_derivatives(images, kernels)
    expected = _unshared_by_hand(images, kernels, cotangent, window, strides)
    for mine, by_hand in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, by_hand, atol=1e-12)


@pytest.mark.parametrize("size", [(2, 2), (2, 8), (8, 2)])
def test_a_window_larger_than_the_image_is_refused(size):
    with pytest.raises(ValueError, match="3x3 window does not fit into images of shape"):
        output_size((*size, 1), (3, 3), (1, 1), "VALID")


def test_a_padding_that_only_jax_knows_is_refused():
    with pytest.raises(ValueError, match="unknown padding 'SAME_LOWER'"):
        output_size((8, 8, 1), (3, 3), (1, 1), "SAME_LOWER")


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_a_window_larger_than_the_image_is_refused_on_every_way(backend, monkeypatch):
    """In forward mode, of no images, and where an accelerator's convolution is used."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    kernel = jnp.ones((3, 3, 1, 4))
    convolve = functools.partial(convolution.convolve, strides=(1, 1), padding="VALID")
    for batch in (2, 0):
        images = jnp.ones((batch, 2, 2, 1))
        for call in (
            lambda x: convolve(x, kernel),
            lambda x: jax.jvp(lambda x: convolve(x, kernel), (x,), (x,)),
        ):
            with pytest.raises(ValueError, match="a 3x3 window does not fit into images"):
                call(images)


@pytest.mark.parametrize(
    ("batch", "most", "few"), [(6, 100, 6), (6, 40, 3), (6, 29, 2), (6, 5, 1), (7, 60, 1)]
)
def test_groups_are_as_many_images_as_divide_the_batch_and_stay_small(batch, most, few):
    """Ten numbers an image."""
    images = np.arange(batch * 4).reshape(batch, 2, 2, 1)
    groups = windows.grouped(jnp.asarray(images), 10, most)
    assert groups.shape == (batch // few, few, 2, 2, 1)
    np.testing.assert_array_equal(np.concatenate(groups), images)


def test_no_images_have_no_outputs():
    kernel = jnp.ones((3, 3, 9, 4))

    def total(kernel):
        outputs = convolution.convolve(jnp.zeros((0, 8, 6, 9)), kernel, (2, 2), "SAME")
        assert outputs.shape == (0, 4, 3, 4)
        return outputs.sum()

    np.testing.assert_array_equal(jax.grad(total)(kernel), 0)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_gradient_of_the_deep_network_is_that_of_the_direct_form(monkeypatch):
    network = make_network("deep", 3)
    images = jax.random.uniform(jax.random.key(0), (4, 16, 16, 3), jnp.float64)
    variables = network.init(jax.random.key(1), images)
    dropout = {"dropout": jax.random.key(2)}

    def gradient(many):
        monkeypatch.setattr(winograd, "MANY", many)

        @jax.jit  # a new function each time: what is compiled depends on ``many``
        @jax.grad
        def of(params):
            given = variables | {"params": params}
            q, _ = network.apply(given, images, train=True, mutable=["batch_stats"], rngs=dropout)
            return jnp.square(q - 1).sum()

        return of(variables["params"])

    ours, direct = gradient(32), gradient(10**6)
    for mine, reference in zip(jax.tree.leaves(ours), jax.tree.leaves(direct), strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-9, atol=1e-12)
    assert any(
        (np.asarray(a) != b).any()
        for a, b in zip(*map(jax.tree.leaves, (ours, direct)), strict=True)
    )


@pytest.mark.parametrize(
    ("kernel", "padding"),
    [
        ((3, 5, 9, 2), "SAME"),
        ((11, 9, 9, 2), "VALID"),
        ((6, 6, 8, 2), "VALID"),
        ((6, 6, 9), "VALID"),
    ],
)
def test_a_kernel_of_other_positions_is_refused(kernel, padding):
    with pytest.raises(ValueError, match=r"the kernel must be \[\d, \d, 9, features\], got"):
        locally_connect(jnp.ones((1, 8, 8, 1)), jnp.ones(kernel), (3, 3), (1, 1), padding)


@pytest.mark.parametrize(
    ("window", "strides", "padding", "error"),
    [
        ((3, 3), (1, 1), "same", ValueError),
        ((9, 3), (1, 1), "VALID", ValueError),
        ((3, 3), (0, 1), "VALID", ValueError),
        (3, (1, 1), "VALID", TypeError),
    ],
)
def test_unshared_kernels_check_their_geometry(window, strides, padding, error):
    with pytest.raises(error):
        locally_connect(jnp.ones((1, 8, 8, 1)), jnp.ones((6, 6, 9, 2)), window, strides, padding)


@pytest.mark.parametrize("channels", [2, 16])  # patches kept, and cut again
@pytest.mark.parametrize("of", ["images", "kernel"])
def test_gradients_have_the_dtype_of_what_they_are_of(of, channels):
    images, kernel = jnp.ones((2, 8, 8, channels)), jnp.ones((3, 3, channels, 4))
    half = {"images": images, "kernel": kernel}[of].astype(jnp.bfloat16)

    def total(images, kernel):
        return convolution.convolve(images, kernel, (1, 1), "SAME").sum()

    arguments = (half, kernel) if of == "images" else (images, half)
    assert total(*arguments).dtype == jnp.float32
    of_images, of_kernel = jax.grad(total, (0, 1))(*arguments)
    assert (of_images.dtype, of_kernel.dtype) == tuple(x.dtype for x in arguments)
    whole = jax.grad(total, (0, 1))(images, kernel)
    for found, expected in zip((of_images, of_kernel), whole, strict=True):
        np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=1e-2)
