"""Where the time of a step goes: read from a program by hand, and from one that ran."""

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmark import profile as benchmark_profile
from experiments.benchmark import summary as benchmark_summary
from experiments.benchmark.profile import Place
from experiments.benchmark.timing import Subject
from qagrel_jax.networks import make_network

PROGRAM = """
HloModule jit_run_steps, is_scheduled=true

%fused_0 (p0: f32[8,4]) -> f32[8,4] {
  %p0 = f32[8,4]{1,0} parameter(0)
  ROOT %max.1 = f32[8,4]{1,0} maximum(%p0, %p0), metadata={op_name="jit(f)/jvp(Net)/relu/max"}
}

%fused_1 (p0.1: f32[8,4], p1.1: f32[4,2]) -> f32[8,2] {
  %p0.1 = f32[8,4]{1,0} parameter(0)
  %p1.1 = f32[4,2]{1,0} parameter(1)
  %dot.3 = f32[8,2]{1,0} dot(%p0.1, %p1.1), metadata={op_name="jit(f)/transpose(jvp(Net))/Dense_1/dot"}
  ROOT %bitcast.1 = f32[8,2]{1,0} bitcast(%dot.3)
}

%body (carry: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %carry = (s32[], /*index=1*/f32[8,4]{1,0}) parameter(0)
  ROOT %slices = (s32[], f32[8,4]{1,0}) tuple(%carry, %carry), metadata={op_name="jit(f)/jvp(Net)/Conv_0/Conv_0._connect/slice"}
}

ENTRY %main (x: f32[8,4], w: f32[4,2]) -> f32[8,2] {
  %x = f32[8,4]{1,0} parameter(0)
  %relu = f32[8,4]{1,0} fusion(%x), kind=kLoop, calls=%fused_0, metadata={op_name="jit(f)/jvp(Net)/relu/max"}
  %loop = (s32[], f32[8,4]{1,0}) while(%x), condition=%c, body=%body, metadata={op_name="jit(f)/jvp(Net)/Conv_0/while"}
  %gemm.2 = f32[8,2]{1,0} custom-call(%x, %w), custom_call_target="__cublas$gemm", metadata={op_name="jit(f)/jvp(Net)/Dense_1/dot_general"}
  %sort = f32[8]{0} custom-call(%x), custom_call_target="TopK", metadata={op_name="jit(f)/choose/top_k"}
  %sums = f32[4]{0} reduce(%x, %x), dimensions={0}, metadata={op_name="jit(f)/transpose(jvp(Net))/Net._conv/BatchNorm_0/reduce_sum"}
  ROOT %out = f32[8,2]{1,0} fusion(%x, %w), kind=kOutput, calls=%fused_1
}
"""  # noqa: E501


def test_every_operation_has_its_place():
    found = benchmark_profile.places(PROGRAM)
    expected = {
        "relu": Place("ReLU, pooling", "forward", "rest"),
        "loop": None,
        "slices": Place("Conv_0", "forward", "rest"),
        "gemm.2": Place("Dense_1", "forward", "products"),
        "sort": Place("choice, reward, weight changes", "", "rest"),
        "sums": Place("BatchNorm_0", "backward", "rest"),
        "out": Place("Dense_1", "backward", "products"),
    }
    assert {name: found[name] for name in expected} == expected


def test_seconds_add_up_by_place_and_other_programs_do_not_count():
    a, b = Place("Dense_0", "forward", "products"), Place("Dense_0", "forward", "rest")
    events = [("dot", 1.0), ("copy", 0.25), ("dot", 2.0), ("while", 9.0), ("of another", 5.0)]
    assert benchmark_profile.add_up(events, {"dot": a, "copy": b, "while": None}) == {a: 3, b: 0.25}


def test_shares_by_kind_of_work():
    def place(layer, kind, seconds):
        return {"layer": layer, "way": "forward", "kind": kind, "seconds_per_step": seconds}

    places = [
        place("Conv_0", "products", 4.0),
        place("Dense_0", "products", 1.0),
        place("Conv_0", "rest", 2.0),
        place("BatchNorm_0", "rest", 1.0),
        place("BatchNorm_1", "rest", 1.0),
        place("ReLU, pooling", "rest", 1.0),
    ]
    shares = benchmark_summary.time_shares({"places": places})
    assert shares == {
        "products": 0.5,
        "cutting and adding patches": 0.2,
        "BatchNorm": 0.2,
        "ReLU, pooling": 0.1,
    }
    assert benchmark_summary.time_shares(None) is None
    cells = {"a": {"products": 0.4, "Dropout": 0.6}, "b": None, "c": {"products": 0.9}}
    assert benchmark_summary.parts_of(cells) == ["products", "Dropout"]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    network = make_network("conv", 3)
    images = jnp.ones((64, 12, 12, 8))
    variables = jax.jit(network.init)(jax.random.key(0), images)

    def loss(params, images):
        q_values, _ = network.apply(
            variables | {"params": params},
            images,
            train=True,
            rngs={"dropout": jax.random.key(1)},
            mutable=["batch_stats"],
        )
        return jnp.sum(q_values**2)

    program = jax.jit(jax.grad(loss)).lower(variables["params"], images).compile()

    def call():
        jax.block_until_ready(program(variables["params"], images))

    call()
    subject = Subject("q_agrel", 1, call, 64, text=program.as_text)
    return benchmark_profile.profile(subject, 5, tmp_path_factory.mktemp("trace"))


def test_a_watched_program_names_its_layers(watched):
    places = {Place(p["layer"], p["way"], p["kind"]) for p in watched["places"]}
    for layer in ("Conv_0", "Conv_1", "Dense_0", "Dense_1"):
        for way in ("forward", "backward"):
            assert Place(layer, way, "products") in places
    layers = {place.layer for place in places}
    assert layers >= {"BatchNorm_0", "BatchNorm_1", "Dropout_0", "ReLU, pooling"}


def test_its_seconds_are_those_of_the_clock(watched):
    seconds = [place["seconds_per_step"] for place in watched["places"]]
    assert seconds == sorted(seconds, reverse=True) and seconds[-1] >= 0
    assert sum(seconds) == pytest.approx(watched["traced_seconds_per_step"])
    assert 0.1 < watched["traced_seconds_per_step"] / watched["seconds_per_step"] < 3


def test_a_program_that_was_not_run_leaves_nothing(tmp_path):
    subject = Subject("q_agrel", 1, lambda: None, 1, text=lambda: PROGRAM)
    assert benchmark_profile.profile(subject, 1, tmp_path) is None
