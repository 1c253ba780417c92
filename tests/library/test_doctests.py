"""The examples in the docstrings are true, and every public thing says what it is."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import pydoc
import textwrap
from pathlib import Path

import jax
import pytest

import qagrel_jax

MODULES = ["qagrel_jax"] + [
    module.name for module in pkgutil.walk_packages(qagrel_jax.__path__, "qagrel_jax.")
]


ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "experiments").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


TRAINED = ("qagrel_jax.curriculum", "qagrel_jax.recurrent", "qagrel_jax.training.fitting")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in TRAINED else name
        for name in MODULES + COMMANDS
    ],
)
def test_examples(name):
    # A learner's key is kept and folded with the step, which the checker takes for reuse.
    with jax.debug_key_reuse(not name.startswith("qagrel_jax.training")):
        result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_arguments_and_errors_are_documented(name):
    """Public functions of three or more arguments name them; those that raise say so.

    Ruff checks that ``Args:`` leaves no argument out; it does not look for docstrings in modules
    such as ``rules._q_agrel``.
    """
    module = importlib.import_module(name)
    assert module.__doc__
    for member, value in vars(module).items():
        if member.startswith("_") or getattr(value, "__module__", None) != name:
            continue
        if inspect.isfunction(value):
            text = inspect.getdoc(value) or ""
            assert text, member
            if len(inspect.signature(value).parameters) >= 3 and len(text.splitlines()) > 1:
                assert "Args:" in text or "``" in text, member
            unsaid = [name for name in _raised(inspect.unwrap(value)) if name not in text]
            assert "Raises:" in text or not unsaid, (member, unsaid)
        elif inspect.isclass(value):
            assert inspect.getdoc(value), member


def _raised(function):
    """The names of the exceptions that ``function`` itself raises."""
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield ast.unparse(node.exc.func)


@pytest.mark.parametrize("name", MODULES)
def test_fields_say_what_they_are(name):
    for value in vars(importlib.import_module(name)).values():
        for field in getattr(value, "_fields", ()) if isinstance(value, type) else ():
            text = getattr(value, field).__doc__
            assert not text.startswith("Alias for"), (value, field)
            assert " " in text or value.__name__.startswith("_"), (value, field, text)


def test_a_field_is_described_by_its_comments():
    fields = qagrel_jax.attention.Attention
    assert fields.outputs.__doc__ == "float[batch, actions], Q values"
    rule = qagrel_jax.rules.Rule
    assert rule.act.__doc__.startswith("(key, forward, params, inputs, has_aux=False) -> Decision")
    assert rule.update.__doc__ == "(decision, outcome [batch]) -> (grads, errors [batch])"


@pytest.mark.parametrize(
    ("function", "equations"),
    [
        (
            qagrel_jax.q_agrel,
            ("δ = r − q_s", "FB_{l−1} = W'_l (g_l ∘ FB_l)", "ΔW_L[:, s] = α δ x_L"),
        ),
        (qagrel_jax.agrel, ("δ = 1 − p_s", "Δw_js = β f(δ) y_j")),
        (qagrel_jax.backprop, ("∂L/∂z_k = p_k − 1[k = t]",)),
        (qagrel_jax.augment.step, ("δ(t) = r(t) + γ q_a(t) − q_a(t−1)", "Δw = β δ Tag")),
        (qagrel_jax.attend, ("FB_0 = W'_1 (g_1 ∘ FB_1)",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_help_shows_the_equations(function, equations):
    shown = pydoc.render_doc(function, renderer=pydoc.plaintext)
    assert all(equation in shown for equation in equations)
