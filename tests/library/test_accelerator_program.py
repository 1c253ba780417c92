"""What an accelerator is given to run, compiled as far as that goes without one."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qagrel_jax import rules, training
from qagrel_jax.networks import make_network

pytestmark = pytest.mark.usefixtures("folded_keys")

STEPS, BATCH, SEEDS = 3, 4, 2


@pytest.fixture(autouse=True)
def on_an_accelerator(monkeypatch):
    """Let the code believe in one."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def _program(platform, architecture="conv", dtype=None, precision="float32"):
    trainer = training.make_trainer(
        rules.q_agrel(),
        make_network(architecture, 3, dtype=dtype),
        optax.sgd(0.1),
        image_shape=(8, 8, 1),
        num_classes=3,
        batch_size=BATCH,
    )
    states = jax.eval_shape(trainer.init, jax.vmap(jax.random.key)(jnp.arange(SEEDS)))
    images = jax.ShapeDtypeStruct((20, 8, 8, 1), np.uint8)
    labels = jax.ShapeDtypeStruct((20,), np.int32)
    order = jax.ShapeDtypeStruct((SEEDS, STEPS, BATCH), np.int32)
    active = jax.ShapeDtypeStruct((SEEDS,), np.bool_)
    with jax.default_matmul_precision(precision):
        traced = trainer.run_steps.trace(states, active, images, labels, order)
        text = traced.lower(lowering_platforms=(platform,)).as_text()
    return text, states


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("architecture", ["dense", "conv", "locally_connected", "deep"])
def test_many_steps_are_one_program_that_never_asks_the_host(platform, architecture):
    text, states = _program(platform, architecture)
    foreign = re.findall(r"custom_call @([\w$.]+)", text) + re.findall(
        r"stablehlo\.(infeed|outfeed|send|recv)", text
    )
    assert set(foreign) <= {"cu_threefry2x32_ffi", "annotate_device_placement"}
    assert "callback" not in text
    entry = text[text.index("@main(") : text.index("\n", text.index("@main("))]
    assert "tensor<20x8x8x1xui8>" in entry
    donated = len(re.findall(r"tf\.aliasing_output|jax\.buffer_donor", entry))
    assert donated == len(jax.tree.leaves(states))


@pytest.mark.parametrize(
    "architecture, layers", [("conv", 2), ("deep", 7), ("locally_connected", 0), ("dense", 0)]
)
def test_convolutions_are_native_ones(architecture, layers):
    text, _ = _program("cuda", architecture)
    # Forward, onto the kernel, and, but for the first layer, onto the images.
    assert len(re.findall(r"stablehlo\.convolution\(", text)) == max(0, 3 * layers - 1)


PRODUCT = re.compile(r"stablehlo\.(?:convolution|dot_general)\b.*")


@pytest.mark.parametrize("precision, name", [("float32", "HIGHEST"), ("tensorfloat32", "HIGH")])
def test_the_precision_asked_for_is_that_of_every_product(precision, name):
    text, _ = _program("cuda", precision=precision)
    products = PRODUCT.findall(text)
    assert len(products) >= 10
    for product in products:
        stated = set(re.findall(r"\b(DEFAULT|HIGH|HIGHEST)\b", product))
        assert stated == {name}, product


def test_bfloat16_is_that_of_every_convolution_and_weights_stay_in_float32():
    text, states = _program("cuda", dtype=jnp.bfloat16)
    convolutions = re.findall(r"stablehlo\.convolution\(.*", text)
    assert convolutions and all("bf16" in c and "f32>" not in c for c in convolutions)
    assert {x.dtype for x in jax.tree.leaves(states.params)} == {jnp.dtype("float32")}
