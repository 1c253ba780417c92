"""The API reference is built without a warning, and its equations are TeX."""

import doctest
import html
import importlib
import re
import sys
import warnings

import pytest

from experiments import api_reference
from experiments.common.cli import UserError


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        api_reference.build(folder)
    return folder


def test_every_public_package_has_a_page(pages):
    names = "qagrel_jax qagrel_jax/rules qagrel_jax/training qagrel_jax/tasks qagrel_jax/attention"
    for name in names.split():
        assert "<html" in (pages / f"{name}.html").read_text()


def test_equations_are_rendered(pages):
    text = html.unescape((pages / "qagrel_jax.html").read_text())
    displayed = re.findall(r"\$\$(.*?)\$\$", text, re.DOTALL)
    assert r"\begin{array}{l} δ = r - q_s \end{array}" in displayed
    assert "MathJax" in text
    for equation in displayed:
        assert equation.count("{") == equation.count("}")
        assert not re.search("[½ᵀ⁺⁻−∘Σ∇∂←]", equation), equation


def test_fields_and_code_stay_as_they_are(pages):
    text = html.unescape((pages / "qagrel_jax" / "rules.html").read_text())
    assert "Alias for field" not in text
    assert "decision.action" in text
    code = "Two functions::\n\n    grads = update(decision)\n\nand so on."
    assert api_reference.typeset(code) == code
    example = "Text.\n\n    >>> 1 + 1\n    2\n"
    assert api_reference.typeset(example) == example


def test_examples():
    assert doctest.testmod(api_reference).failed == 0


def test_the_command(tmp_path, capsys):
    api_reference.main(["--out", str(tmp_path / "api")])
    assert (tmp_path / "api" / "qagrel_jax.html").is_file()
    assert "in a browser" in capsys.readouterr().out


def test_without_pdoc_a_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pdoc", None)
    monkeypatch.delitem(sys.modules, "experiments.api_reference")
    with pytest.raises(SystemExit) as stop:
        importlib.import_module("experiments.api_reference")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: this needs pdoc: pip install -e '.[dev]'\n"


def test_other_files_are_not_replaced(tmp_path):
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        api_reference.main(["--out", str(tmp_path)])
    with pytest.raises(UserError, match="is not a folder"):
        api_reference.main(["--out", str(tmp_path / "index.html")])
    assert (tmp_path / "index.html").read_text() == "mine"
