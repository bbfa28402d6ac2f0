"""Frozen dataclasses from nested dicts: unknown keys, wrong types and values out of range are one line each."""

import dataclasses
import difflib
import inspect
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ncl_jax.errors import UserError


def option(default, *, low=None, above=None, high=None, below=None, choices=None):
    """A dataclass field with its range: `low` and `high` are inclusive, `above` and `below` exclusive."""
    limits = {"low": low, "above": above, "high": high, "below": below, "choices": choices}
    return dataclasses.field(default=default, metadata=limits)


def settings_of(module: Any, functions: Mapping[str, int], fields: Sequence[str] = ()) -> type:
    """`module.Settings`, of what is to be a method, a negative or a test set.

    UserError where that is no dataclass with these fields, or the module lacks one of the functions, of so many
    arguments.
    """
    name, settings = getattr(module, "__name__", repr(module)), getattr(module, "Settings", None)
    parameters = getattr(settings, "__dataclass_params__", None)
    if not (isinstance(settings, type) and parameters is not None and parameters.frozen):
        raise UserError(f"{name}: want Settings, a frozen dataclass")
    lacking = set(fields) - {field.name for field in dataclasses.fields(settings)}
    if lacking:
        raise UserError(f"{name}: Settings has no {' and no '.join(sorted(lacking))}")
    for function, count in functions.items():
        try:
            inspect.signature(getattr(module, function)).bind(*range(count))
        except (AttributeError, TypeError):
            raise UserError(f"{name}: want a function {function} of {count} arguments") from None
    return settings


def section(schema: type, raw: Any, path: str, ready: Mapping[str, Any] | None = None) -> Any:
    """An instance of the dataclass `schema` from the dict `raw`; `ready` holds fields that are parsed already."""
    if not isinstance(raw, Mapping):
        raise UserError(f"config.{path} = {raw!r}: is a section; set one of its keys")
    fields = {f.name: f for f in dataclasses.fields(schema)}
    types_ = typing.get_type_hints(schema)
    values = dict(ready or {})
    for key, value in raw.items():
        dotted = f"{path}.{key}" if path else key
        if key not in fields:
            raise UserError(f"config.{dotted}: unknown key; {nearest(key, fields)}")
        if dataclasses.is_dataclass(types_[key]):
            values[key] = section(types_[key], value, dotted)  # pyright: ignore[reportArgumentType]
        else:
            values[key] = _value(types_[key], value, fields[key].metadata, dotted)
    return schema(**values)


def _value(kind: Any, value: Any, limits: Mapping[str, Any], path: str) -> Any:
    """`value` as `kind` inside its limits; int to float, list to tuple, word to tuple of words are all conversions."""
    if isinstance(kind, types.UnionType):
        if value is None and type(None) in kind.__args__:
            return None
        kind = next(k for k in kind.__args__ if k is not type(None))
    wrong = UserError(f"config.{path} = {value!r}: expected {_type_name(kind)}")
    if typing.get_origin(kind) is tuple:
        if value and isinstance(value, str) and typing.get_args(kind)[0] is str:
            value = (value,)
        if not isinstance(value, (tuple, list)):
            raise wrong
        inner = typing.get_args(kind)
        if inner[-1] is not Ellipsis and len(inner) != len(value):
            raise wrong
        result = tuple(_value(inner[0], v, limits, path) for v in value)
        if len(inner) == 2 and inner[-1] is not Ellipsis and result[0] > result[1]:
            raise UserError(f"config.{path} = {value!r}: the first value is above the second")
        return result
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            raise wrong from None
    if type(value) is not kind:
        raise wrong
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"config.{path} = {value!r}: must be a finite number")
    if limits.get("choices") and value not in limits["choices"]:
        raise UserError(f"config.{path} = {value!r}: {nearest(value, limits['choices'])}")
    for name, sign, bad in (
        ("low", "at least", lambda v, limit: not v >= limit),
        ("above", "above", lambda v, limit: not v > limit),
        ("high", "at most", lambda v, limit: not v <= limit),
        ("below", "below", lambda v, limit: not v < limit),
    ):
        if limits.get(name) is not None and bad(value, limits[name]):
            raise UserError(f"config.{path} = {value!r}: must be {sign} {limits[name]}")
    return value


def _type_name(kind: Any) -> str:
    if typing.get_origin(kind) is tuple:
        inner, *others = typing.get_args(kind)
        example = {int: 8, float: 0.5, str: "name"}.get(inner, inner)
        return f"a tuple like {(example,) * (2 if others == [...] else 1 + len(others))}"
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)


def nearest(key: Any, known: Iterable[str]) -> str:
    """What a misspelt `key` was meant to be, as the end of an error line."""
    near = difflib.get_close_matches(str(key), list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"one of {', '.join(sorted(known))}"
