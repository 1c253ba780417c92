"""Parameters to plain files and back; Keras's HDF5 files beside a literal NumPy forward pass."""

import json
import subprocess
import sys

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qagrel_jax import make_network
from qagrel_jax.weights import files as interchange
from qagrel_jax.weights.keras import load_keras
from tests.reference import keras_network


@pytest.fixture(scope="module")
def saved():
    network = {"architecture": "dense", "num_actions": 3, "hidden": [5, 4]}
    network["feedback"] = "reciprocal"
    built = make_network(**{**network, "hidden": (5, 4)})
    images = jax.random.uniform(jax.random.key(1), (2, 3, 3, 1))
    return network, built, built.init(jax.random.key(0), images), images


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_there_and_back(saved, suffix, tmp_path):
    network, built, variables, images = saved
    path = tmp_path / f"net{suffix}"
    earlier = {**network, "initialisation": "paper"}  # as an earlier version called it
    interchange.save(path, variables, {"network": earlier, "rule": "q_agrel", "ε": 0.02})
    again, loaded, metadata = interchange.load_network(path)
    assert again.initialization == "paper"
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    np.testing.assert_array_equal(again.apply(loaded, images), built.apply(variables, images))
    assert metadata["rule"] == "q_agrel"
    assert metadata["ε"] == 0.02
    assert metadata["shapes"]["params/Dense_1/feedback_kernel"] == [5, 4]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_others_can_read_them(saved, tmp_path):
    """With NumPy, and with safetensors, alone."""
    from safetensors import safe_open

    _, _, variables, _ = saved
    kernel = variables["params"]["Dense_0"]["kernel"]
    for suffix in (".npz", ".safetensors"):
        interchange.save(tmp_path / f"net{suffix}", variables, {"rule": "q_agrel"})
    with np.load(tmp_path / "net.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["params/Dense_0/kernel"], kernel)
        assert json.loads(str(file["__metadata__"]))["rule"] == "q_agrel"
    with safe_open(tmp_path / "net.safetensors", "np") as file:
        np.testing.assert_array_equal(file.get_tensor("params/Dense_0/kernel"), kernel)
        assert json.loads(file.metadata()["qagrel_jax"])["rule"] == "q_agrel"


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_single_number_stays_one(suffix, tmp_path):
    path = tmp_path / f"gain{suffix}"
    interchange.save(path, {"params": {"gain": np.float32(3)}}, {})
    variables, metadata = interchange.load(path)
    assert np.shape(variables["params"]["gain"]) == () and variables["params"]["gain"] == 3
    assert metadata["shapes"] == {"params/gain": []}


KINDS = [
    "float64",
    "float32",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint64",
    "uint32",
    "uint16",
    "uint8",
    "bool",
]


@pytest.mark.parametrize("kind", [*KINDS, "bfloat16"])
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_every_kind_of_number_comes_back_to_the_bit(suffix, kind, tmp_path):
    if (suffix, kind) == (".npz", "bfloat16"):
        pytest.skip("refused")
    bits = np.random.default_rng(0).integers(0, 2 if kind == "bool" else 256, 48, np.uint8)
    array = bits.view(np.dtype(kind)).reshape(2, -1)
    path = tmp_path / f"net{suffix}"
    interchange.save(path, {"params": {"w": array}}, {})
    loaded = interchange.load(path)[0]["params"]["w"]
    assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)
    assert loaded.tobytes() == array.tobytes()
    loaded[0, 0] = 1  # writable


def test_a_network_of_bfloat16_learns_on_from_its_file(tmp_path):
    safetensors = pytest.importorskip("safetensors.flax")
    network, images = make_network("dense", 3, hidden=(4,)), jnp.ones((2, 3, 3, 1))
    half = jax.tree.map(
        lambda w: w.astype(jnp.bfloat16), jax.jit(network.init)(jax.random.key(0), images)
    )
    path = tmp_path / "net.safetensors"
    interchange.save(path, half, {})
    loaded = interchange.load(path, like=half)[0]
    assert {w.dtype for w in jax.tree.leaves(loaded)} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_array_equal(network.apply(loaded, images), network.apply(half, images))
    # Others read them, too.
    theirs = safetensors.load_file(path)["params/Dense_0/kernel"]
    np.testing.assert_array_equal(theirs, half["params"]["Dense_0"]["kernel"])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_damaged_and_foreign_files_say_so(saved, suffix, tmp_path):
    path = tmp_path / f"net{suffix}"
    interchange.save(path, saved[2], {})
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"nothing of the kind"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged") as error:
            interchange.load(path)
        assert "\n" not in str(error.value)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="does not say which network"):
        interchange.load_network(path)
    with pytest.raises(FileNotFoundError):
        interchange.load(tmp_path / f"none{suffix}")


def test_a_network_that_its_file_does_not_fit_is_refused(tmp_path):
    path, options = tmp_path / "net.npz", {"architecture": "dense", "num_actions": 2}
    options |= {"hidden": (3,)}
    network = make_network(**options)
    variables = network.init(jax.random.key(0), jnp.zeros((1, 4)))
    interchange.save(path, variables, {"network": options | {"feedback": "direct"}})
    with pytest.raises(ValueError, match="there are no direct feedback weights"):
        interchange.load_network(path)
    interchange.save(path, variables["params"], {"network": options})
    with pytest.raises(ValueError, match="has no 'params', got Dense_0, Dense_1: save all"):
        interchange.load_network(path)
    for own in ("Net", {"hidden": [3]}):
        interchange.save(path, variables, {"network": own})
        with pytest.raises(ValueError, match=r"must be the arguments of make_network, got .* load"):
            interchange.load_network(path)
    seeds = jax.tree.map(lambda x: jnp.stack([x, x]), variables)
    interchange.save(path, seeds, {"network": options})
    with pytest.raises(ValueError, match=r"Dense_0/kernel is \[2, 4, 3\], of several seeds: save"):
        interchange.load_network(path)
    for other, said in (
        ({"num_actions": 3}, "params/Dense_1/kernel has 2 units, expected 3"),
        ({"hidden": (4,)}, "params/Dense_0/kernel has 3 units, expected 4"),
        ({"hidden": (3, 2)}, "params/Dense_2/kernel has no units, expected 2"),
        ({"hidden": ()}, "params/Dense_0/kernel has 3 units, expected 2"),
    ):
        interchange.save(path, variables, {"network": options | other})
        with pytest.raises(ValueError, match=f"network is not that of its arrays: {said}"):
            interchange.load_network(path)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_numbers_wider_than_64_bits_are_refused(tmp_path, suffix):
    wide = np.ones(2, np.longdouble)
    with pytest.raises(ValueError, match=r"params/w holds .*float.* cannot: .*cast it first"):
        interchange.save(tmp_path / f"net{suffix}", {"params": {"w": wide}}, {})


def test_metadata_that_are_no_dictionary(tmp_path):
    np.savez(tmp_path / "net.npz", w=np.ones(2), __metadata__=np.asarray("[1]"))
    with pytest.raises(ValueError, match="its metadata are no dictionary"):
        interchange.load(tmp_path / "net.npz")


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.npz or \.safetensors"):
        interchange.save(tmp_path / "net.pickle", {"params": {"w": np.ones(2)}}, {})
    with pytest.raises(ValueError, match="no arrays"):
        interchange.save(tmp_path / "net.npz", {}, {})
    with pytest.raises(ValueError, match=r"params/w holds bfloat16, .* a .safetensors file, or"):
        interchange.save(tmp_path / "net.npz", {"params": {"w": jnp.ones(2, jnp.bfloat16)}}, {})
    with pytest.raises(ValueError, match=r"params/w holds complex64.* cannot: cast it first"):
        interchange.save(tmp_path / "net.safetensors", {"params": {"w": jnp.ones(2) * 1j}}, {})
    with pytest.raises(ValueError, match="metadata's 'format' is that of the file"):
        interchange.save(tmp_path / "net.npz", {"w": np.ones(2)}, {"format": "png"})
    assert not list(tmp_path.iterdir())
    np.savez(tmp_path / "other.npz", x=np.ones(2))
    with pytest.raises(ValueError, match="not a file of parameters"):
        interchange.load(tmp_path / "other.npz")


def test_missing_packages_are_one_line(tmp_path):
    code = (
        "import sys; sys.modules['safetensors'] = sys.modules['h5py'] = None\n"
        "from qagrel_jax import interchange, keras_weights, make_network\n"
        "for f in (lambda: interchange.save('x.safetensors', {'params': {'w': 1.0}}, {}),\n"
        "  lambda: keras_weights.load_keras('x.h5', make_network('dense', 2), (2, 2, 1))):\n"
        "    try: f()\n"
        "    except ImportError as error: print(error)\n"
    )
    run = [sys.executable, "-c", code]
    result = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert result.stdout.splitlines() == [
        f"this needs {package}: pip install 'qagrel_jax[interchange]'"
        for package in ("safetensors", "h5py")
    ], result.stderr


SHAPES = {
    "dense": (2, 3, 2),
    "conv": (6, 6, 2),
    "locally_connected": (7, 7, 2),
    "deep": (8, 8, 1),
}


@pytest.mark.parametrize("whole_model", [False, True], ids=["weights", "model"])
@pytest.mark.parametrize("architecture", SHAPES)
def test_keras_files_give_the_network_they_came_from(architecture, whole_model, tmp_path):
    shape = SHAPES[architecture]
    random = np.random.default_rng(0)
    layers = keras_network.draw(random, architecture, shape, num_actions=3)
    path = tmp_path / "net.h5"
    keras_network.write(path, layers, whole_model)
    network = make_network(architecture, 3)
    variables = load_keras(path, network, shape)
    images = random.random((2, *shape))
    expected = keras_network.forward(layers, images)
    assert expected.std() > 0.05
    outputs = jax.jit(network.apply)(variables, jnp.asarray(images, jnp.float32))
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-4)


def test_keras_files_that_do_not_fit(tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "net.h5"
    layers = keras_network.draw(random, "dense", (2, 2, 1), num_actions=3)
    keras_network.write(path, layers)
    for network, shape, message in (
        (
            make_network("dense", 4),
            (2, 2, 1),
            r"'dense_3' has shape \(500, 3\)",
        ),
        (make_network("dense", 3), (3, 2, 1), r"'dense' has shape \(4, 1500\)"),
        (make_network("conv", 3), (4, 4, 1), "has nothing for"),
        (make_network("dense", 3, feedback="reciprocal"), (2, 2, 1), "feedback_kernel"),
        (make_network("dense", 3, hidden=(1500, 1000)), (2, 2, 1), "shape|has arrays that"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            load_keras(path, network, shape)
        assert "\n" not in str(error.value)
    with h5py.File(path, "a") as file:  # a bias
        file["dense"].attrs["weight_names"] = [b"dense/kernel:0", b"dense/bias:0"]
        file["dense/dense/bias:0"] = np.zeros(1500)
    with pytest.raises(ValueError, match=r"has arrays that the network has not: dense \(1500,\)"):
        load_keras(path, make_network("dense", 3), (2, 2, 1))
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(ValueError, match="no HDF5 file"):
        load_keras(tmp_path / "text.h5", make_network("dense", 3), (2, 2, 1))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.ones(2)
    with pytest.raises(ValueError, match="no Keras HDF5 file"):
        load_keras(tmp_path / "other.h5", make_network("dense", 3), (2, 2, 1))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_arrays_of_any_name_come_back(suffix, tmp_path):
    variables = {"file": np.ones(2), "args": {"kwds": np.zeros(3)}, "a b.ü": np.ones((1, 1))}
    interchange.save(tmp_path / f"net{suffix}", variables)
    read, _ = interchange.load(tmp_path / f"net{suffix}")
    jax.tree.map(np.testing.assert_array_equal, variables, read)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize(
    "variables",
    [
        {"a/b": np.ones(2), "a": {"b": np.zeros(3)}},
        {"a": {"b/": np.ones(2)}},
        {"__metadata__": np.ones(2)},
    ],
)
def test_names_that_would_be_lost_are_refused(variables, suffix, tmp_path):
    with pytest.raises(ValueError, match="cannot be a name in the file"):
        interchange.save(tmp_path / f"net{suffix}", variables)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("feedback", ["kolen_pollack", "random", "sign_fixed", "product"])
def test_a_network_is_not_loaded_with_another_feedback(feedback, tmp_path):
    """Its metadata without a word of feedback mean tied: what the file holds would be idle."""
    network = {"architecture": "dense", "num_actions": 2, "hidden": (3,)}
    built = make_network(**network, feedback=feedback)
    variables = built.init(jax.random.key(0), jnp.zeros((1, 2, 2, 1)))
    interchange.save(tmp_path / "net.npz", variables, {"network": network})
    with pytest.raises(ValueError, match="its metadata must say its feedback"):
        interchange.load_network(tmp_path / "net.npz")
    own = {"network": {**network, "feedback": feedback}}
    interchange.save(tmp_path / "own.npz", variables, own)
    assert interchange.load_network(tmp_path / "own.npz")[0].feedback == feedback


def test_keras_files_of_a_model_within_a_model_or_without_what_they_list_are_refused(tmp_path):
    path, network = tmp_path / "net.h5", make_network("dense", 3, hidden=())
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"sequential"]
        group = file.create_group("sequential")
        group.attrs["weight_names"] = [b"a/kernel:0", b"b/kernel:0"]
        for number, name in enumerate("ab"):
            group[f"{name}/kernel:0"] = np.full((3, 3), number)
    with pytest.raises(ValueError, match="'sequential' has several arrays 'kernel'"):
        load_keras(path, network, (1, 1, 3))
    with h5py.File(path, "a") as file:
        file["sequential"].attrs["weight_names"] = [b"a/kernel:0", b"c/bias:0"]
    with pytest.raises(ValueError, match="lists layers or weights that it has not"):
        load_keras(path, network, (1, 1, 3))
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = [b"dense"]
    with pytest.raises(ValueError, match="lists layers or weights that it has not"):
        load_keras(path, network, (1, 1, 3))


@pytest.mark.parametrize("options", [{}, {"hiden": [3]}, {"num_actions": "three"}])
def test_metadata_that_make_network_does_not_take_name_the_file(options, tmp_path):
    path = tmp_path / "net.npz"
    interchange.save(
        path, {"params": {"w": np.ones(1)}}, {"network": {"architecture": "dense", **options}}
    )
    with pytest.raises(ValueError, match=r"net.npz: its metadata's network is not what make_net"):
        interchange.load_network(path)


def test_what_was_saved_may_be_described_by_shapes_alone(tmp_path):
    path, key = tmp_path / "state.npz", jax.random.key(3)
    state = {"w": jnp.ones((2, 3)), "key": key}
    interchange.save(path, state)
    loaded, _ = interchange.load(path, like=jax.eval_shape(lambda: state))
    np.testing.assert_array_equal(loaded["w"], state["w"])
    assert (jax.random.key_data(loaded["key"]) == jax.random.key_data(key)).all()


def test_an_nnx_state_is_saved_as_dictionaries(tmp_path):
    model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.relu)
    state = nnx.state(model, nnx.Param)
    with pytest.raises(TypeError, match=r"nnx.to_pure_dict makes one"):
        interchange.save(tmp_path / "net.npz", state)
    interchange.save(tmp_path / "net.npz", nnx.to_pure_dict(state))
    loaded, _ = interchange.load(tmp_path / "net.npz")
    np.testing.assert_array_equal(loaded["layers"]["0"]["kernel"], model.layers[0].kernel[...])
