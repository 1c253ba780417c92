"""Documentation of NamedTuple fields: ``help()`` shows the comments that stand beside them.

A field of a NamedTuple is declared with its shape in a comment, and Python would describe it as
"Alias for field number 4". ``document`` puts the comment there::

    class Decision(NamedTuple):
        action: chex.Array  # int32[batch], the chosen action
"""

import linecache
import re
import sys
from collections.abc import Iterable, Iterator

FIELD = re.compile(r"    (\w+): ([^#]*?)\s*(?:# (.*))?$")
CONTINUED = re.compile(r"    # (.*)$")


def document(package: str) -> None:
    """Document the fields of every NamedTuple in the modules of ``package`` loaded so far.

    Args:
      package: its name; modules whose source is not at hand are left as they are.
    """
    for name, module in list(sys.modules.items()):
        if name != package and not name.startswith(f"{package}."):
            continue
        lines = linecache.getlines(getattr(module, "__file__", None) or "")
        for value in list(vars(module).values()):
            fields = getattr(value, "_fields", None)
            if isinstance(value, type) and value.__module__ == name and fields:
                for field, text in _comments(lines, value.__name__):
                    if field in fields:
                        getattr(value, field).__doc__ = text


def _comments(lines: list[str], owner: str) -> Iterator[tuple[str, str]]:
    """Yield each field of class ``owner`` with its comment, or its type where it has none."""
    name, kind, found = "", "", list[str]()
    for line in _body(lines, owner):
        if match := FIELD.match(line):
            if name:
                yield name, " ".join(found) or kind
            name, kind, comment = match.groups()
            found = [comment] if comment else []
        elif match := CONTINUED.match(line):
            found.append(match[1])
    if name:
        yield name, " ".join(found) or kind


def _body(lines: list[str], owner: str) -> Iterable[str]:
    start = next((i for i, line in enumerate(lines) if line.startswith(f"class {owner}(")), None)
    if start is None:
        return
    for line in lines[start + 1 :]:
        if line.strip() and not line.startswith("    "):
            return
        yield line.rstrip()
