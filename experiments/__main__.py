"""List the commands of the experiments: ``python -m experiments``."""

import ast
import pkgutil
from pathlib import Path

HERE = Path(__file__).resolve().parent


def commands() -> dict[str, str]:
    """Return the commands ``python -m experiments.NAME``, and what each is for."""
    found = {}
    for module in pkgutil.iter_modules([str(HERE)]):
        path = HERE / module.name / "__main__.py" if module.ispkg else HERE / f"{module.name}.py"
        if not path.is_file() or path == Path(__file__).resolve():
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.If) for node in tree.body):
            found[module.name] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main() -> None:
    """Print the list."""
    print("python -m experiments.NAME; each has --help:\n")
    for name, purpose in commands().items():
        print(f"  {name:19}{purpose}")


if __name__ == "__main__":
    main()
