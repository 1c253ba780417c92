"""The networks and the training step, written again in PyTorch: the same numbers as ours."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import config as configs
from experiments.benchmark import pytorch as benchmark_torch
from experiments.train import build
from qagrel_jax.data import Dataset
from qagrel_jax.networks import make_network
from qagrel_jax.training import fitting

torch = pytest.importorskip("torch")

CLASSES = 4
SHAPES = {
    "dense": (5, 5, 1),
    "conv": (8, 7, 2),
    "locally_connected": (8, 7, 2),
    "deep": (8, 8, 2),
}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("architecture", SHAPES)
def test_same_parameters_same_outputs(architecture):
    shape, generator = SHAPES[architecture], np.random.default_rng(0)
    ours = make_network(architecture, CLASSES)
    images = generator.random((3, *shape), np.float32)
    structure = jax.eval_shape(ours.init, jax.random.key(0), images)
    variables = jax.tree.map(
        lambda x: jnp.asarray(0.1 + 0.1 * generator.standard_normal(x.shape, np.float32)), structure
    )
    if "batch_stats" in variables:
        variables["batch_stats"] = jax.tree.map(jnp.abs, variables["batch_stats"])
    theirs = benchmark_torch.make_network(architecture, shape, CLASSES).eval()
    counts = sum(p.numel() for p in theirs.parameters())
    assert counts == sum(x.size for x in jax.tree.leaves(variables["params"]))
    copy_weights(variables, theirs)
    with torch.no_grad():
        outputs = theirs(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    expected = ours.apply(variables, images)
    np.testing.assert_allclose(outputs, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("rule", ["q_agrel", "backprop"])
@pytest.mark.parametrize("architecture", ["dense", "conv", "locally_connected"])
def test_one_step_changes_the_weights_alike(architecture, rule, monkeypatch):
    """Without dropout, whose masks cannot be shared, and with the greedy choice."""
    monkeypatch.setattr(nn.Dropout, "__call__", lambda self, inputs, *_, **__: inputs)
    shape = SHAPES[architecture]
    config = configs.replace(
        configs.load("digits"),
        {
            "architecture": architecture,
            "hidden": (7, 6) if architecture == "dense" else None,
            "policy": "greedy",
            "batch_size": 6,
            "l2": 0.01,
        },
    )
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (6, *shape), dtype=np.uint8)
    labels = generator.integers(0, CLASSES, 6, dtype=np.int32)
    dataset = Dataset("random", "0", images, labels, images, labels, CLASSES)
    examples = jax.tree.map(jnp.asarray, fitting.Examples(images, labels))
    splits = build.Splits(examples, examples, examples)
    trainer = build.make_trainer(config, rule, dataset, splits)
    states = trainer.init(jax.vmap(jax.random.key)(jnp.arange(1)))
    before = jax.tree.map(lambda x: np.asarray(x[0]), states.params)

    theirs = benchmark_torch.make_network(architecture, shape, CLASSES, config.hidden)
    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    copy_weights({"params": before}, theirs)
    optimizer = benchmark_torch.make_optimizer(theirs, config.learning_rate, config.l2)
    outputs = theirs(torch.tensor(images).permute(0, 3, 1, 2).float() / 255)
    benchmark_torch.loss(rule, outputs, torch.tensor(labels, dtype=torch.long), 0.0).backward()
    optimizer.step()

    order = jnp.arange(6, dtype=jnp.int32).reshape(1, 1, 6)
    states, _ = trainer.run_steps(states, jnp.ones(1, bool), *examples, order)
    after = jax.tree.map(lambda x: np.asarray(x[0]), states.params)
    expected = benchmark_torch.make_network(architecture, shape, CLASSES, config.hidden)
    copy_weights({"params": after}, expected)
    start = benchmark_torch.make_network(architecture, shape, CLASSES, config.hidden)
    copy_weights({"params": before}, start)
    for got, want, old in zip(
        theirs.parameters(), expected.parameters(), start.parameters(), strict=True
    ):
        change, wanted = (x.detach().numpy() - old.detach().numpy() for x in (got, want))
        assert np.abs(wanted).max() > 0
        np.testing.assert_allclose(change, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())


def test_exploration_draws_from_softmax():
    outputs = torch.tensor([[0.0, 10.0]], requires_grad=True)
    greedy = benchmark_torch.loss("q_agrel", outputs, torch.tensor([1]), 0.0)
    assert greedy.item() == pytest.approx(0.5 * (1 - 10) ** 2)
    torch.manual_seed(0)
    flat = torch.zeros(2000, 2)
    rewarded = benchmark_torch.loss("q_agrel", flat, torch.ones(2000, dtype=torch.long), 1.0)
    assert rewarded.item() == pytest.approx(0.25, abs=0.03)  # half of them right, ½δ² each


def test_a_call_trains_for_all_its_steps():
    config = configs.replace(configs.load("digits"), {"architecture": "conv", "hidden": None})
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 7, 2), dtype=np.uint8)
    rows = np.array([[0, 1, 2], [2, 3, 4]])
    side = benchmark_torch.Side(
        config, images, np.arange(5) % CLASSES, rows, CLASSES, torch.device("cpu")
    )
    assert side.memory_format in benchmark_torch.FORMATS
    subject = side.subject("q_agrel")
    assert (subject.name, subject.steps, subject.images_per_step) == ("torch_q_agrel", 2, 3)
    subject.call()


@pytest.mark.filterwarnings("ignore")  # PyTorch's compiler warns of PyTorch
def test_a_compiled_network_is_trained_alike():
    if not benchmark_torch.compiles(torch.device("cpu")):
        pytest.skip("torch.compile needs a C++ compiler")
    config = configs.replace(configs.load("digits"), {"hidden": (6,), "learning_rate": 0.1})
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    rows = np.array([[0, 1, 2], [2, 3, 4]])
    side = benchmark_torch.Side(
        config, images, np.arange(5) % CLASSES, rows, CLASSES, torch.device("cpu")
    )
    built = []

    def remember(*arguments):
        torch.manual_seed(0)
        built.append(make_torch_network(*arguments))
        return built[-1]

    make_torch_network = benchmark_torch.make_network
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark_torch, "make_network", remember)
        subjects = [side.subject("backprop", compiled) for compiled in (False, True)]
    assert [s.name for s in subjects] == ["torch_backprop", "torch_compiled_backprop"]
    for subject in subjects:
        subject.call()
    start = make_torch_network("dense", (8, 8, 1), CLASSES, (6,))
    for eager, compiled, other in zip(*(n.parameters() for n in (*built, start)), strict=True):
        assert torch.allclose(eager, compiled, atol=1e-6)
        assert not torch.allclose(eager, other, atol=1e-4)


def copy_weights(variables, network):
    """Copy a Flax tree into the PyTorch network, layer by layer."""
    params, stats = variables["params"], variables.get("batch_stats", {})
    seen = {}

    def put(parameter, values):
        with torch.no_grad():
            parameter.copy_(torch.tensor(np.ascontiguousarray(values)))

    for module in network.modules():
        match type(module).__name__:
            case "Conv2d":
                name, axes = "Conv", (3, 2, 0, 1)
            case "Unshared":
                name, axes = "LocallyConnected", (0, 1, 4, 2, 3, 5)
            case "Linear":
                name, axes = "Dense", (1, 0)
            case "BatchNorm2d":
                name, axes = "BatchNorm", None
            case _:
                continue
        index = seen.get(name, 0)
        seen[name] = index + 1
        ours = params[f"{name}_{index}"]
        if axes:
            kernel = np.asarray(ours["kernel"]).transpose(axes)
            put(module.weight, kernel.reshape(tuple(module.weight.shape)))
        else:
            put(module.weight, ours["scale"])
            put(module.bias, ours["bias"])
            for theirs, name in ((module.running_mean, "mean"), (module.running_var, "var")):
                if stats:
                    put(theirs, stats[f"BatchNorm_{index}"][name])
