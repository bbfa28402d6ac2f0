"""Floating-point operations of a traced program: its matrix products and convolutions, whatever compiles them.

XLA's own count of a compiled program knows nothing of the libraries' calls that products become on GPUs, and counts the
body of a loop once.
"""

import math
from collections.abc import Iterator
from typing import Any


def count(jaxpr: Any) -> float:
    """Of all devices together; a multiplication and an addition are two. `jaxpr`: open or closed.

    A loop whose length is not known when it is traced counts once, of a condition's branches the dearest.
    """
    return float(sum(_of(equation) for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns))


def _of(equation: Any) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2 * _size(equation.outvars[0]) * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, spec = equation.invars[1].aval.shape, params["dimension_numbers"].rhs_spec
        # Of an input that is dilated (a strided convolution's gradient) most rows are zeros and cost nothing.
        taps = math.prod(kernel) / kernel[spec[0]] / math.prod(params["lhs_dilation"])
        return 2 * _size(equation.outvars[0]) * taps
    inner = [count(part) for part in _programs(params)]
    if name == "cond":
        return max(inner)
    times = params["length"] if name == "scan" else params["mesh"].size if name == "shard_map" else 1
    return times * sum(inner)


def _size(variable: Any) -> int:
    return math.prod(variable.aval.shape)


def _programs(params: dict[str, Any]) -> Iterator[Any]:
    """The programs among an equation's parameters."""
    for value in params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if hasattr(getattr(part, "jaxpr", part), "eqns"):
                yield part
