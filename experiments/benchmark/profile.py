"""Where the time of a training step goes: its compiled program watched by JAX's profiler.

XLA keeps of every operation the name of what it was compiled from
(``…/transpose(jvp(ConvNet))/Conv_1/…``). So what the profiler sees can be added up by layer, way
through the network and kind of work: products (matrix products and convolutions, what the roofline
counts) and the rest (cutting patches, activation functions, BatchNorm, random bits).

Times are those of the operations as the profiler sees them. On a CPU that is the time on the thread
that leads an operation; two may run at once, and some end after the profiler has seen them, so that
the sum is near the time of the step, not equal to it. On an accelerator what is missing from it is
time in which the device waited.
"""

import collections
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.benchmark.timing import Subject

NETWORK, TRIAL = "ReLU, pooling", "choice, reward, weight changes"
PRODUCTS, REST = "products", "rest"
FORWARD, BACKWARD = "forward", "backward"

_CONTROL = {"while", "conditional", "call"}
"""Their time is that of the operations inside, which are counted themselves."""

_PRODUCT = {"dot", "convolution"}
_LIBRARY = re.compile(r'custom_call_target="[^"]*(?:cublas|cudnn|onednn)')
"""On a GPU products are calls of its libraries."""

_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = (?:\(.*?\)|\S+) ([\w\-]+)\(")
_COMPUTATION = re.compile(r"\s*(?:ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_CALLS = re.compile(r"calls=%?([\w.\-]+)")
_NAME = re.compile(r'op_name="([^"]*)"')
_LAYER = re.compile(r"(?:^|[/(])([A-Z][A-Za-z]*_\d+)(?=[/).]|$)")


class Place(NamedTuple):
    """Where in a training step an operation belongs."""

    layer: str  # Flax's name, ``NETWORK`` or ``TRIAL``
    way: str  # ``FORWARD`` or ``BACKWARD``; of ``TRIAL`` empty
    kind: str  # ``PRODUCTS`` or ``REST``


def places(hlo: str) -> dict[str, Place | None]:
    """Say of every operation of a compiled program where it belongs.

    Args:
      hlo: text of the program, ``compiled.as_text()``.

    Returns:
      By name; None for control flow, whose time is counted inside it.
    """
    operations, inside, computation = {}, collections.defaultdict(list), ""
    for line in hlo.splitlines():
        if found := _INSTRUCTION.match(line):
            calls, name = _CALLS.search(line), _NAME.search(line)
            opcode = "dot" if _LIBRARY.search(line) else found[2]
            operation = opcode, calls[1] if calls else "", name[1] if name else ""
            operations[found[1]] = operation
            inside[computation].append(operation)
        elif found := _COMPUTATION.match(line):
            computation = found[1]

    def place(opcode: str, calls: str, name: str) -> Place | None:
        if opcode in _CONTROL:
            return None
        fused = inside[calls] if opcode == "fusion" else []
        opcodes = {opcode, *(code for code, *_ in fused)}
        kind = PRODUCTS if opcodes & _PRODUCT else REST
        # A fusion is named after its last operation, which may have lost its name on the way.
        names = [name, *(inner for *_, inner in reversed(fused))]
        named = next((n for n in names if _LAYER.search(n) or "jvp(" in n), name)
        return Place(*_source(named), kind)

    return {name: place(*operation) for name, operation in operations.items()}


def _source(name: str) -> tuple[str, str]:
    """Layer and way, read from what JAX and Flax write into an operation's name."""
    way = BACKWARD if "transpose(jvp(" in name else FORWARD
    if layers := _LAYER.findall(name):
        return layers[-1], way
    return (NETWORK, way) if "jvp(" in name else (TRIAL, "")


def profile(subject: Subject, calls: int, folder: Path) -> dict[str, Any] | None:
    """Trace calls of a warm compiled program.

    Args:
      subject: with ``text``.
      calls: how many to trace.
      folder: new or empty; gets the trace, which Perfetto and TensorBoard open.

    Returns:
      ``seconds_per_step`` by the clock (watched, so a little longer than elsewhere),
      ``traced_seconds_per_step``, the sum over operations, and ``places``: of each place its layer,
      way, kind and seconds a step, longest first. None where the profiler sees no operations.
    """
    import jax

    assert subject.text is not None
    with jax.profiler.trace(str(folder)):
        began = time.perf_counter()
        for _ in range(calls):
            subject.call()
        wall = (time.perf_counter() - began) / (calls * subject.steps)
    events = [event for trace in folder.glob("**/*.xplane.pb") for event in _events(trace)]
    spent = add_up(events, places(subject.text()))
    if not spent:
        return None
    by_place = {place: seconds / (calls * subject.steps) for place, seconds in spent.items()}
    longest_first = sorted(by_place.items(), key=lambda item: -item[1])
    return {
        "seconds_per_step": wall,
        "traced_seconds_per_step": sum(by_place.values()),
        "places": [{**place._asdict(), "seconds_per_step": s} for place, s in longest_first],
    }


def add_up(
    events: Iterable[tuple[str, float]], of_operation: Mapping[str, Place | None]
) -> dict[Place, float]:
    """Add up seconds by place.

    Args:
      events: (operation, seconds), as often as it ran.
      of_operation: ``places``; other operations are those of other programs and left out.
    """
    spent: dict[Place, float] = collections.defaultdict(float)
    for operation, seconds in events:
        place = of_operation.get(operation)
        if place is not None:
            spent[place] += seconds
    return dict(spent)


def _events(trace: Path) -> list[tuple[str, float]]:
    from jax.profiler import ProfileData

    planes = list(ProfileData.from_file(str(trace)).planes)
    devices = [p for p in planes if p.name.startswith("/device:")]
    found = []
    for plane in devices or planes:
        for line in plane.lines:
            for event in line.events:
                operation: Any = dict(event.stats).get("hlo_op")
                if operation is not None:
                    found.append((str(operation), event.duration_ns * 1e-9))
    return found
