"""What a compiled program sends between devices, read from its text."""

import math
import re
from collections import defaultdict

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BITS = {"pred": 8, "bf16": 16, "f16": 16, "f32": 32, "f64": 64}  # other types carry their bits in their names
_SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\]")
_OPERATION = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(")


def sizes(program: str) -> dict[str, list[int]]:
    """Kind -> bytes on one device of each such operation's result, in a program's HLO text.

    Of an asynchronous start, whose result holds operands too, the largest array counts. An operation inside a loop
    counts once.
    """
    found: dict[str, list[int]] = defaultdict(list)
    for line in program.splitlines():
        match = _OPERATION.search(line)
        if match:
            results, kind, start = match.groups()
            parts = [_bytes(*shape) for shape in _SHAPE.findall(results)]
            found[kind].append(max(parts) if start and kind != "all-reduce" else sum(parts))
    return dict(found)


def arrays(program: str) -> list[tuple[str, tuple[int, ...]]]:
    """(kind, shape) of every array in the result of every such operation."""
    matches = [match for line in program.splitlines() if (match := _OPERATION.search(line))]
    return [
        (match[2], tuple(int(n) for n in dimensions.split(",") if n))
        for match in matches
        for _, dimensions in _SHAPE.findall(match[1])
    ]


def seconds(kind: str, result: int, *, devices: int, bandwidth: float) -> float:
    """Of a ring over `devices` that each send `bandwidth` bytes per second; `result` bytes on each in the end."""
    share = (devices - 1) / devices
    whole = {"all-reduce": 2 * result, "all-gather": result, "reduce-scatter": devices * result}.get(kind, result)
    return share * whole / bandwidth


def _bytes(kind: str, dimensions: str) -> int:
    bits = _BITS.get(kind) or int(re.sub(r"\D", "", kind) or 0)
    return math.prod(int(n) for n in dimensions.split(",") if n) * bits // 8
