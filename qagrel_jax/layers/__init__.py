"""Layers that carry attention down through their own feedback weights."""

from qagrel_jax.layers.convolution import convolve, locally_connect
from qagrel_jax.layers.feedback import with_feedback
from qagrel_jax.layers.interception import Layer, each_layer
from qagrel_jax.layers.kernels import feedback_kernels
from qagrel_jax.layers.layers import (
    FEEDBACKS,
    Conv,
    Dense,
    Initializer,
    LocallyConnected,
    he_normal,
)
from qagrel_jax.layers.precision import as_multiplied
from qagrel_jax.layers.windows import Padding, output_size

__all__ = [
    "FEEDBACKS",
    "Conv",
    "Dense",
    "Initializer",
    "Layer",
    "LocallyConnected",
    "Padding",
    "as_multiplied",
    "convolve",
    "each_layer",
    "feedback_kernels",
    "he_normal",
    "locally_connect",
    "output_size",
    "with_feedback",
]
