"""Fields of frozen dataclasses that say what they are: kind, choices, range, and a help text.

Values are checked by what the field says, wherever they come from: an option, a configuration
file, the ``config.json`` of a run.
"""

import argparse
import dataclasses
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, get_args, get_origin

from experiments.common import cli
from experiments.common.cli import UserError

KINDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    dict: "a mapping",
    bool: "True or False",
}
NONE = object()
"""What "none" on the command line is there: an option that was not given is None."""
MANY = {int: "whole numbers", float: "numbers", str: "names"}


def text(
    help: str = "",
    *,
    group: str = "",
    option: str = "",
    default_is: str = "",
    former: str = "",
    **extra: Any,
) -> Any:
    """A field that its annotation alone describes; an option of the command line if it has a help.

    Args:
      help: of the option.
      group: its heading in the help.
      option: its name, if not the field's.
      default_is: what the help says of the default, if not its value.
      former: the field's name in earlier versions; its option is taken, but not in the help.
      **extra: as ``dataclasses.field`` takes it.
    """
    described = {"help": help, "group": group, "option": option, "default_is": default_is}
    return dataclasses.field(metadata=described | {"former": former}, **extra)


def flag(value: bool, help: str, **extra: Any) -> Any:
    """A field that an option without an argument sets to ``value``."""
    return _with(text(help, default=not value, **extra), const=value)


def switch(help: str, **extra: Any) -> Any:
    """A field that ``--name`` sets to True and ``--no-name`` to False."""
    return _with(text(help, **extra), switch=True)


def choice(
    names: tuple[str, ...],
    help: str = "",
    *,
    aliases: Mapping[str, str] | None = None,
    **extra: Any,
) -> Any:
    """A field that is one of ``names``; the command line also takes earlier names of them."""
    return _with(text(_listing(help, names), **extra), choices=names, aliases=aliases)


def choices(
    kind: str,
    names: tuple[str, ...],
    help: str = "",
    *,
    aliases: Mapping[str, str] | None = None,
    **extra: Any,
) -> Any:
    """A field that is a tuple of one or more different ``names``, each the name of a ``kind``."""
    described = text(_listing(help, names), **extra)
    return _with(described, choices=names, kind=kind, aliases=aliases)


def number(low: float, high: float, help: str = "", *, open_low: bool = False, **extra: Any) -> Any:
    """A field that is a number in [low, high], or (low, high] if ``open_low``; or a tuple of such.

    A tuple holds one or more; those of ``float`` are all different.
    """
    return _with(text(help, **extra), range=(low, high), open_low=open_low)


def check(record: Any) -> None:
    """Check every field of ``record``.

    Raises:
      UserError: the first value that is of another kind, not among the choices, or out of range.
    """
    for entry in dataclasses.fields(record):
        _check(entry, getattr(record, entry.name))


def add_options(
    parser: argparse.ArgumentParser, kind: type, defaults: Any, leave_out: Collection[str] = ()
) -> dict[str, Any]:
    """Give ``parser`` an option for each field of ``kind`` with a help text, in its groups.

    Args:
      parser: of a command.
      kind: the dataclass.
      defaults: a record of it; the help shows its values.
      leave_out: names of fields that get no option.

    Returns:
      The groups by heading, for options that are no fields.
    """
    groups: dict[str, Any] = {"": parser}
    for entry in dataclasses.fields(kind):
        metadata = entry.metadata
        if not metadata.get("help") or entry.name in leave_out:
            continue
        title = metadata["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        if "const" in metadata:
            groups[title].add_argument(
                _option(entry),
                dest=entry.name,
                action="store_const",
                const=metadata["const"],
                help=metadata["help"],
            )
            continue
        default = metadata["default_is"] or shown(getattr(defaults, entry.name))
        if "switch" in metadata:
            groups[title].add_argument(
                _option(entry),
                dest=entry.name,
                action=argparse.BooleanOptionalAction,
                help=f"{metadata['help']} (default: {default})",
            )
            continue
        flags = dict.fromkeys([_option(entry), "--" + entry.name.replace("_", "-")])
        groups[title].add_argument(
            *flags,
            dest=entry.name,
            type=_argument(entry),
            metavar=_metavar(entry),
            help=f"{metadata['help']} (default: {default})".replace("%", "%%"),
        )
        if metadata["former"]:
            groups[title].add_argument(
                "--" + metadata["former"].replace("_", "-"),
                dest=entry.name,
                type=_argument(entry),
                help=argparse.SUPPRESS,
            )
    return groups


def given(kind: type, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of ``kind`` that the command line gave."""
    names = {entry.name for entry in dataclasses.fields(kind)}
    values = {k: v for k, v in vars(arguments).items() if k in names and v is not None}
    return {name: None if value is NONE else value for name, value in values.items()}


def difference(there: Any, here: Any) -> list[str]:
    """Return the names of the fields in which two records of a kind differ."""
    names = [entry.name for entry in dataclasses.fields(there)]
    return [name for name in names if getattr(there, name) != getattr(here, name)]


def told(
    there: Any, here: Any, names: Sequence[str], places: tuple[str, str] = ("there", "here")
) -> str:
    """Say in what two records of a kind differ, and in which of two places is what."""
    return ", ".join(
        f"{name} {getattr(there, name)!r} {places[0]}, {getattr(here, name)!r} {places[1]}"
        for name in names
    )


def as_given(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what JSON made of a record: its lists were tuples."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in content.items()}


def check_names(kind: type, content: Mapping[str, Any]) -> None:
    """Check that a record as JSON has the fields of ``kind``.

    Raises:
      UserError: it has others, or lacks some.
    """
    entries = dataclasses.fields(kind)
    unknown = [name for name in content if name not in {entry.name for entry in entries}]
    needed = (e.name for e in entries if e.default is e.default_factory is dataclasses.MISSING)
    lacking = [name for name in needed if name not in content]
    if unknown or lacking:
        told = [f"it has {_first(unknown)}"] if unknown else []
        told += [f"it lacks {_first(lacking)}"] if lacking else []
        raise UserError(f"of another command or version: {', '.join(told)}")


def _first(names: Sequence[str], most: int = 3) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def renamed(kind: type, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``content`` of a record, its fields called as they are now."""
    entries = dataclasses.fields(kind)
    names = {e.metadata["former"]: e.name for e in entries if e.metadata.get("former")}
    return {names.get(name, name): value for name, value in content.items()}


def shown(value: Any) -> str:
    """Return a value as the command line takes it; "none" for None."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ",".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _listing(help: str, names: Sequence[str]) -> str:
    return f"{help}: {', '.join(names)}" if help else ""


def _with(entry: Any, **metadata: Any) -> Any:
    entry.metadata = types.MappingProxyType({**entry.metadata, **metadata})
    return entry


def _option(entry: dataclasses.Field) -> str:
    return entry.metadata.get("option") or "--" + entry.name.replace("_", "-")


def _kind(entry: dataclasses.Field) -> tuple[type, bool, bool]:
    """The kind of a field's values, whether they come in a tuple, and whether None is one."""
    annotation, optional = entry.type, False
    if isinstance(annotation, types.UnionType):
        alternatives = get_args(annotation)
        optional = types.NoneType in alternatives
        # The last one: of a value or several, several.
        annotation = [one for one in alternatives if one is not types.NoneType][-1]
    if get_origin(annotation) is tuple:
        return get_args(annotation)[0], True, optional
    return get_origin(annotation) or annotation, False, optional  # type: ignore[return-value]


def _check(entry: dataclasses.Field, value: Any) -> None:
    kind, several, optional = _kind(entry)
    if value is None and optional:
        return
    name = _option(entry)
    either = several and kind in get_args(entry.type) and isinstance(entry.type, types.UnionType)
    if either and not isinstance(value, tuple):
        value = (value,)
    if several:
        if not isinstance(value, tuple) or not all(_is_a(one, kind) for one in value):
            raise UserError(f"{name} must be a tuple of {MANY[kind]}, got {value!r}")
        different = kind is int or len(set(value)) == len(value)
        if not value or not different:
            raise UserError(f"{name} needs one or more different {MANY[kind]}, got {value!r}")
    elif not _is_a(value, kind):
        raise UserError(f"{name} must be {KINDS[kind]}, got {value!r}")
    for one in value if several else (value,):
        _check_one(entry, one)


def _check_one(entry: dataclasses.Field, value: Any) -> None:
    metadata = entry.metadata
    if "choices" in metadata and value not in metadata["choices"]:
        raise UserError(cli.unknown(metadata.get("kind", entry.name), value, metadata["choices"]))
    if "range" in metadata:
        low, high = metadata["range"]
        above = value > low if metadata["open_low"] else value >= low
        if not (above and value <= high):
            bracket = "(" if metadata["open_low"] else "["
            raise UserError(f"{_option(entry)} must be in {bracket}{low}, {high}], got {value!r}")
    if value == "":
        raise UserError(f"{_option(entry)} must not be empty")


def _is_a(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _argument(entry: dataclasses.Field) -> Callable[[str], Any]:
    parse = _argument_of_value(entry)
    if not _kind(entry)[2]:
        return parse
    return lambda text: NONE if text == shown(None) else parse(text)


def _argument_of_value(entry: dataclasses.Field) -> Callable[[str], Any]:
    metadata = entry.metadata
    kind, several, _ = _kind(entry)
    if "choices" in metadata:
        one: Callable[[str], Any] = cli.one_of(
            metadata.get("kind", entry.name), metadata["choices"], metadata.get("aliases")
        )
    elif "range" in metadata:
        one = cli.number(kind, *metadata["range"], open_low=metadata["open_low"])
    else:
        one = str
    if not several:
        return one
    if kind is int:  # sizes may be alike
        return lambda text: tuple(one(part) for part in text.split(","))
    return cli.several(one)


def _metavar(entry: dataclasses.Field) -> str:
    kind, several, _ = _kind(entry)
    name = {int: "N", float: "X", str: "NAME"}[kind]
    return f"{name}[,{name}]" if several else name
