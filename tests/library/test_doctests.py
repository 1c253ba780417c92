"""The examples in the docstrings are true, and every public thing says what it is."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import qagrel_jax

MODULES = ["qagrel_jax"] + [
    module.name for module in pkgutil.walk_packages(qagrel_jax.__path__, "qagrel_jax.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_arguments_and_errors_are_documented(name):
    """Public functions of three or more arguments name them; those that raise say so."""
    module = importlib.import_module(name)
    assert module.__doc__
    for member, value in vars(module).items():
        if member.startswith("_") or getattr(value, "__module__", None) != name:
            continue
        if inspect.isfunction(value):
            text, source = inspect.getdoc(value) or "", inspect.getsource(value)
            assert text, member
            if len(inspect.signature(value).parameters) >= 3 and len(text.splitlines()) > 1:
                assert "Args:" in text or "``" in text, member
            if "\n    raise ValueError" in source or "\n        raise ValueError" in source:
                assert "Raise" in text, member
        elif inspect.isclass(value):
            assert inspect.getdoc(value), member
