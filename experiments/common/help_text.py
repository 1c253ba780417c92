"""``--help`` at any width: texts are filled to the terminal's columns, and no word is cut."""

import argparse
import textwrap
from collections.abc import Iterable, Iterator


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Fills descriptions and help texts; shortens a usage that is wider than the terminal."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled = description(text, width + 1)
        return "".join(indent + line for line in filled.splitlines(keepends=True))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return _filled(text, width)

    def _format_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None,
    ) -> str:
        actions = list(actions)
        text = super()._format_usage(usage, actions, groups, prefix)
        if usage is not None or max(map(len, text.splitlines())) <= self._width + 1:
            return text
        arguments = [
            self._format_args(action, self._get_default_metavar_for_positional(action))
            for action in actions
            if not action.option_strings
        ]
        short = " ".join(["%(prog)s", *arguments, "[options]"])
        text = super()._format_usage(short, actions, groups, prefix)
        return textwrap.fill(text, self._width + 2, subsequent_indent="  ") + "\n\n"


def description(text: str, width: int) -> str:
    """Fill paragraphs to ``width`` columns; break commands that are wider, a comment goes before.

    >>> print(description("A text.\\n\\n    python -m train --out DIR  # train it", 32))
    A text.
    <BLANKLINE>
        # train it
        python -m train --out DIR
    """
    return "\n\n".join(
        _narrow(paragraph, width)
        if paragraph.startswith(" ")
        else "\n".join(_filled(paragraph, width))
        for paragraph in text.strip("\n").split("\n\n")
    )


def _filled(text: str, width: int) -> list[str]:
    words = " ".join(text.split())
    lines = textwrap.wrap(words, width, break_long_words=False, break_on_hyphens=False)
    return [part for line in lines for part in _after_commas(line, width)]


def _after_commas(line: str, width: int) -> Iterator[str]:
    """Break a line that is one long list of names, ``tied,sign,direct``, between names."""
    while len(line) > width and "," in line[:width]:
        end = line.rindex(",", 0, width) + 1
        yield line[:end]
        line = line[end:]
    yield line


def _narrow(block: str, width: int) -> str:
    lines = []
    for line in block.splitlines():
        indent = " " * (len(line) - len(line.lstrip()))
        command, sign, comment = line.partition(" # ")
        if sign and len(line) > width:
            lines.append(f"{indent}# {comment}")
            line = command.rstrip()
        while len(line) > width:
            end = _where_to_break(line, width - 2)
            if not line[:end].strip():
                break
            lines.append(f"{line[:end]} \\")
            line = f"{indent}    {line[end + 1 :]}"
        lines.append(line)
    return "\n".join(lines)


def _where_to_break(command: str, width: int) -> int:
    """Return where the last space is, of those before an option if there are any."""
    before_option = command.rfind(" --", 0, width + 3)
    spaces = len(command) - len(command.lstrip())
    return before_option if before_option > spaces else command.rfind(" ", 0, width + 1)
