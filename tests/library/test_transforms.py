"""Layers under Flax's and JAX's transforms: every rule learns the same, or refuses to."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qagrel_jax import rules
from qagrel_jax.attention import attend
from qagrel_jax.layers import Conv, Dense, LocallyConnected
from qagrel_jax.layers.feedback import FEEDBACKS
from tests.combinations import every_value

UNITS, ACTIONS, BATCH = 4, 3, 5
THROUGH_FEEDBACK = {
    "q_agrel": rules.q_agrel(),
    "agrel": rules.agrel(),
    "backprop": rules.backprop(),
    "reinforce": rules.reinforce(),
}
FROM_OUTSIDE = {
    "broadcast": rules.broadcast(),
    "node_perturbation": rules.node_perturbation(),
    "stochastic_units": rules.stochastic_units(),
}
RULES = THROUGH_FEEDBACK | FROM_OUTSIDE
LIFTED = {"params": None, "feedback": None, "output_error": 0}


@functools.cache
def _jitted(target):
    """Keep the class: what it compiled once it does not trace again."""
    return nn.jit(target)


def _over_examples(target):
    return nn.vmap(target, variable_axes=LIFTED, split_rngs={"params": False, "feedback": False})


TRANSFORMS = {"nn.remat": nn.remat, "nn.jit": _jitted, "nn.vmap": _over_examples}


class Block(nn.Module):
    """A hidden layer within a module."""

    kind: str
    transform: str | None = None  # of the layer
    keyword: bool = False

    @nn.compact
    def __call__(self, x):
        layer = TRANSFORMS[self.transform](Dense) if self.transform else Dense
        layer = layer(UNITS, feedback=self.kind, num_actions=ACTIONS, name="inner")
        return nn.relu(layer(inputs=x) if self.keyword else layer(x))


class Step(nn.Module):
    """``Block`` as ``nn.scan`` wants it."""

    kind: str

    @nn.compact
    def __call__(self, x, _):
        return Block(self.kind, name="block")(x), None


class Net(nn.Module):
    """Three layers of units, the middle one under a transform."""

    kind: str = "kolen_pollack"
    where: str = "plain"

    @nn.compact
    def __call__(self, x):
        options = {"feedback": self.kind, "num_actions": ACTIONS}
        x = nn.relu(Dense(UNITS, name="below", **options)(x))
        of, _, transform = self.where.partition(" ")
        match of:
            case "plain":
                x = Block(self.kind, name="block")(x)
            case "layer":
                x = Block(self.kind, transform, name="block")(x)
            case "block":
                x = TRANSFORMS[transform](Block)(self.kind, name="block")(x)
            case "keyword":
                x = Block(self.kind, keyword=True, name="block")(x)
            case "twice":
                block = Block(self.kind, name="block")
                x = block(block(x))
            case "two":
                x = Block(self.kind, name="block_1")(Block(self.kind, name="block_0")(x))
            case "scan":
                axes = {"params": 0, "feedback": 0, "output_error": 0}
                streams = {"params": True, "feedback": True}
                body = nn.scan(Step, axes, split_rngs=streams, length=2)
                x, _ = body(self.kind, name="scan")(x, None)
        return Dense(ACTIONS, name="output", **options)(x)


INPUTS = jax.random.normal(jax.random.key(0), (BATCH, UNITS))


def _variables(kind, where="plain"):
    return dict(jax.jit(Net(kind, where).init)(jax.random.key(1), INPUTS))


def _forward(network, variables):
    def forward(params, inputs):
        streams = {"feedback": jax.random.key(5)}
        return network.apply({**variables, "params": params}, inputs, rngs=streams)

    return forward


def _update(rule, forward, params):
    decision = rule.act(jax.random.key(2), forward, params, INPUTS)
    outcome = jnp.arange(BATCH) % 3 if rule.outcome == "label" else jnp.arange(BATCH) / 2.0
    return rule.update(decision, outcome)


def _learn(table, network, variables):
    forward = _forward(network, variables)

    @jax.jit
    def learn(params):
        return {name: _update(rule, forward, params) for name, rule in table.items()}

    return learn(variables["params"])


def _equal(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, other)


@pytest.fixture(scope="module")
def plain():
    variables = _variables("kolen_pollack")
    return variables, _learn(RULES, Net(), variables)


def test_a_layer_called_by_keyword(plain):
    variables, expected = plain
    _equal(_learn(RULES, Net(where="keyword"), variables), expected)


@pytest.mark.parametrize(("part", "transform"), every_value(["layer", "block"], TRANSFORMS))
def test_a_part_of_the_network_under_a_transform(plain, part, transform):
    """Right by feedback; refused where a rule reaches in from outside, compiled before or not."""
    variables, expected = plain
    network = Net(where=f"{part} {transform}")
    learned = _learn(THROUGH_FEEDBACK, network, variables)
    _equal(learned, {name: expected[name] for name in THROUGH_FEEDBACK})
    network.apply(variables, INPUTS)
    forward = _forward(network, variables)
    forward(variables["params"], INPUTS)
    for rule in FROM_OUTSIDE.values():
        with pytest.raises(ValueError, match=f"layer 'block/inner' runs inside {transform}"):
            _update(rule, forward, variables["params"])
    with pytest.raises(ValueError, match=f"layer 'block/inner' runs inside {transform}"):
        attend(network, variables, INPUTS, jnp.zeros(BATCH, int))


def _two_of(stacked):
    """Variables of two blocks from those of ``nn.scan``, or from those of one used twice."""
    two = {}
    for collection, content in stacked.items():
        content = dict(content)
        if "scan" in content:
            both = content.pop("scan")["block"]
            content |= {f"block_{i}": jax.tree.map(lambda a, i=i: a[i], both) for i in range(2)}
        elif "block" in content:
            content["block_0"] = content["block_1"] = content.pop("block")
        two[collection] = content
    return two


def test_a_scanned_layer():
    variables = _variables("kolen_pollack", "scan")
    learned = _learn(THROUGH_FEEDBACK, Net(where="scan"), variables)
    expected = _learn(THROUGH_FEEDBACK, Net(where="two"), _two_of(variables))
    for name in THROUGH_FEEDBACK:
        _equal(_two_of({"params": learned[name][0]})["params"], expected[name][0])
    forward = _forward(Net(where="scan"), variables)
    for rule in FROM_OUTSIDE.values():
        with pytest.raises(ValueError, match=r"layer 'scan/block/inner' runs inside nn\.scan"):
            _update(rule, forward, variables["params"])


def test_a_layer_used_twice():
    """Its synapses change by what they do in both places."""
    variables = _variables("kolen_pollack")
    learned = _learn(RULES, Net(where="twice"), variables)
    expected = _learn(RULES, Net(where="two"), _two_of(variables))
    for name in RULES:
        parts = dict(expected[name][0])
        parts["block"] = jax.tree.map(jnp.add, parts.pop("block_0"), parts.pop("block_1"))
        _equal(learned[name][0], parts)


def test_attention_of_a_layer_used_twice():
    variables, actions = _variables("kolen_pollack"), jnp.arange(BATCH) % 3
    seen = attend(Net(where="twice"), variables, INPUTS, actions)
    both = attend(Net(where="two"), _two_of(variables), INPUTS, actions)
    names = {"block_0/inner": "block/inner", "block_1/inner": "block/inner:2"}
    assert list(seen.drive) == [names.get(name, name) for name in both.drive]
    for name in both.drive:
        _equal(seen.drive[names.get(name, name)], both.drive[name])
        _equal(seen.feedback[names.get(name, name)], both.feedback[name])


# One that is computed, one drawn in each pass, one that skips the layers above.
QUICK = ("sign", "sign_batchwise", "direct")
KINDS = [
    kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow)
    for kind in FEEDBACKS
    if kind != "kolen_pollack"
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_feedback(kind):
    table = {"q_agrel": rules.q_agrel()}
    variables = _variables(kind)
    expected = _learn(table, Net(kind), variables)
    for where in ("layer nn.remat", "block nn.remat", "block nn.jit", "block nn.vmap"):
        if kind == "sign_batchwise" and where != "layer nn.remat":
            continue  # the transform gives the layer other random numbers
        network = Net(kind, where)
        _forward(network, variables)(variables["params"], INPUTS)
        _equal(_learn(table, network, variables), expected)
    if kind == "sign_batchwise":
        return
    scanned = _variables(kind, "scan")
    learned = _learn(table, Net(kind, "scan"), scanned)
    expected = _learn(table, Net(kind, "two"), _two_of(scanned))
    for name in table:
        _equal(_two_of({"params": learned[name][0]})["params"], expected[name][0])


def test_direct_feedback_through_a_transform_that_was_not_told():
    class Deaf(nn.Module):
        @nn.compact
        def __call__(self, x):
            lifted = nn.vmap(
                Dense,
                variable_axes={"params": None, "feedback": None},
                split_rngs={"params": False},
            )
            return lifted(ACTIONS, feedback="direct", num_actions=ACTIONS, name="deaf")(x)

    variables = dict(jax.jit(Deaf().init)(jax.random.key(0), INPUTS))
    with pytest.raises(ValueError, match=r"'deaf' .* list 'output_error' in the variable_axes"):
        _learn({"q_agrel": rules.q_agrel()}, Deaf(), variables)


@pytest.mark.parametrize("before", [False, True])
def test_a_forward_pass_that_is_compiled_by_itself(plain, before):
    variables, expected = plain
    forward = jax.jit(_forward(Net(), variables))
    if before:
        forward(variables["params"], INPUTS)
    _equal(_update(rules.q_agrel(), forward, variables["params"]), expected["q_agrel"])
    for rule in FROM_OUTSIDE.values():
        with pytest.raises(ValueError, match=r"layer 'below' runs inside a transform \(jax.jit"):
            _update(rule, forward, variables["params"])


def test_seeds_side_by_side():
    """``jax.vmap`` over learners, with direct feedback, too."""
    for kind in ("kolen_pollack", "direct"):
        all_variables = [jax.jit(Net(kind).init)(jax.random.key(s), INPUTS) for s in range(2)]

        @jax.jit
        def learn(variables, kind=kind):
            return _update(rules.q_agrel(), _forward(Net(kind), variables), variables["params"])

        together = jax.jit(jax.vmap(learn))(jax.tree.map(lambda *x: jnp.stack(x), *all_variables))
        for seed, variables in enumerate(all_variables):
            _equal(jax.tree.map(lambda x, s=seed: x[s], together), learn(variables))


LAYERS = {
    "dense": (Dense(3), (2, 4)),
    "conv": (Conv(3), (2, 4, 4, 2)),
    "locally_connected": (LocallyConnected(3, padding="VALID"), (2, 4, 4, 2)),
}


class TestDerivatives:
    """``tied`` feedback is ordinary differentiation, of any order; the others say they aren't."""

    def _function(self, name, kind="tied"):
        layer, shape = LAYERS[name]
        layer = layer.clone(feedback=kind)
        inputs = jax.random.normal(jax.random.key(0), shape, float)
        variables = jax.jit(layer.init)(jax.random.key(1), inputs)

        def f(x):
            return jnp.tanh(layer.apply(variables, x * jnp.tanh(x))).sum()

        return f, inputs

    @pytest.mark.usefixtures("x64")
    @pytest.mark.parametrize("name", LAYERS)
    def test_of_first_and_second_order(self, name):
        f, x = self._function(name)
        direction = jax.random.normal(jax.random.key(2), x.shape)
        step = 1e-5

        @jax.jit
        def at(t):
            return f(x + t * direction)

        slope = (at(step) - at(-step)) / (2 * step)
        bend = (at(step) - 2 * at(0.0) + at(-step)) / step**2
        forward = jax.jit(lambda d: jax.jvp(f, (x,), (d,))[1])(direction)
        np.testing.assert_allclose(forward, slope, rtol=1e-6)
        gradient = jax.grad(f)
        products = {
            "forward over reverse": lambda d: jax.jvp(gradient, (x,), (d,))[1],
            "reverse over reverse": lambda d: jax.grad(lambda y: (gradient(y) * d).sum())(x),
        }
        for product in products.values():
            np.testing.assert_allclose(
                (jax.jit(product)(direction) * direction).sum(), bend, rtol=1e-4
            )

    @pytest.mark.parametrize(("kind", "name"), every_value(["kolen_pollack", "sign"], LAYERS))
    def test_other_feedback_is_of_first_order_and_backwards(self, name, kind):
        f, x = self._function(name, kind)
        jax.make_jaxpr(jax.grad(f))(x)
        for forward in (lambda x: jax.jvp(f, (x,), (x,)), jax.jacfwd(f)):
            with pytest.raises(TypeError, match=r"forward-mode .* there is a way down only"):
                jax.make_jaxpr(forward)(x)
        for second in (jax.hessian(f), jax.grad(lambda y: jax.grad(f)(y).sum())):
            with pytest.raises(TypeError, match=r"second derivative .* what they carry down is no"):
                jax.make_jaxpr(second)(x)
