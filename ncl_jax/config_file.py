"""Config files and overrides, as the nested dicts that `ncl_jax.config` then checks.

A config file is Python with `get_config(variant)` returning an `ml_collections.ConfigDict`, or a dict.
"""

import ast
import copy
import difflib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncl_jax.errors import UserError


def read(path: str) -> dict[str, Any]:
    """The plain nested dict that a config file's `get_config` returns."""
    file, _, variant = path.partition(":")
    if not Path(file).is_file():
        near = difflib.get_close_matches(Path(file).name, [p.name for p in Path(file).parent.glob("*.py")], n=1)
        hint = f"; did you mean {Path(file).parent / near[0]}?" if near else ""
        raise UserError(f"--config={file}: no such file{hint}")
    spec = importlib.util.spec_from_file_location(f"ncl_jax_config_{Path(file).stem}", file)
    if spec is None or spec.loader is None:
        raise UserError(f"--config={file}: is no Python file; give configs/NAME.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a config is the user's code: whatever it raises is theirs to mend
        raise UserError(f"--config={file}: {type(error).__name__}: {error}") from error
    if not hasattr(module, "get_config"):
        raise UserError(f"--config={file}: defines no get_config(variant)")
    variants = getattr(module, "VARIANTS", ())
    if variant and variant not in variants:
        known = ", ".join(variants) or "none"
        raise UserError(f"--config={file}:{variant}: unknown variant; known: {known}")
    try:
        config = module.get_config(variant or None)
    except (Exception, SystemExit) as error:
        raise UserError(f"--config={file}: get_config: {type(error).__name__}: {error}") from error
    if hasattr(config, "to_dict"):
        return config.to_dict()
    if not isinstance(config, Mapping):
        raise UserError(f"--config={file}: get_config returns {type(config).__name__}, want a dict or a ConfigDict")
    return dict(config)


def merge_evaluation(raw: dict[str, Any], path: str) -> None:
    """Into a run's nested dict, in place: on what data, and how, the config file `path` wants it evaluated."""
    for name, section in read(path).items():
        if name not in ("data", "evaluation"):
            raise UserError(f"--config={path}: sets {name}, which the run has; here it may set data and evaluation")
        raw[name] = {**raw.get(name, {}), **section}


def override(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set the dotted `key` in place; text is read as a Python literal where it is one."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            value = {"true": True, "false": False}.get(value.lower(), value)
    *parents, leaf = key.split(".")
    node = raw
    for name in parents:
        if name in ("negatives", "sets"):
            node[name] = named(node.get(name, {}), name)
        child = node.setdefault(name, {})
        if child is None:  # a kind that the file switches off
            child = node[name] = {}
        if not isinstance(child, dict):
            raise UserError(f"config.{key}: {name} is a value, not a section")
        node = child
    node[leaf] = copy.deepcopy(value)  # the next one may go into it: the caller's stays


def named(value: Any, key: str) -> dict[str, Any]:
    """`("patch", "texture")`, `"patch,texture"` and `{"patch": {...}}` all give a section per name."""
    if isinstance(value, Mapping):
        return dict(value)
    if value is None:
        return {}
    if isinstance(value, str):
        value = tuple(name.strip() for name in value.split(","))
    if isinstance(value, (tuple, list)) and all(isinstance(v, str) for v in value):
        return {name: {} for name in value}
    raise UserError(f"config.{key} = {value!r}: give names or sections, e.g. ('patch',)")
