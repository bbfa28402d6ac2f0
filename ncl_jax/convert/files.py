"""Tensor files, read without running anything that is in them: safetensors, npz and, through torch, `.pth`.

What a file is, is told by its first bytes; its name does not matter for reading.
"""

import contextlib
import io
import json
import math
import os
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ncl_jax import storage
from ncl_jax.errors import UserError, first_line

TORCH_SUFFIXES = (".pth", ".pt", ".pth.tar", ".bin", ".ckpt")
_TORCH_BEFORE_ZIP = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")  # how torch.save began until version 1.6
_NEEDS_TORCH = "needs torch (pip install 'ncl-jax[torch]'); safetensors and npz files need none"
_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
# More than this, unpacked, is no weights: those hardly compress.
_SLACK, _RATIO = 64 * 2**20, 20


def read(path: str | os.PathLike) -> dict[str, Any]:
    """The nested dict of numpy arrays, numbers and text in a file. A note that `write` put there is under `ncl_jax`.

    Raises UserError, one line, for what is no checkpoint, is damaged, holds code, or unpacks to far more than it is.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        inside = [p for name in ("model.safetensors", "pytorch_model.bin") if (p := path / name).is_file()]
        if not inside:
            raise UserError(f"{path}: a folder without model.safetensors or pytorch_model.bin; name a file")
        path = inside[0]
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    if head[:2] == b"PK":
        return _read_zip(path)
    if head.startswith(_TORCH_BEFORE_ZIP):
        return _read_torch(path)
    if head[:1] == b"\x80":
        raise UserError(f"{path}: a plain pickle, which can run code when it is read; refused (save tensors, e.g. npz)")
    if head[8:9] == b"{":
        return _read_safetensors(path)
    raise UserError(f"{path}: no checkpoint, or a damaged one; expected a .pth, .safetensors or .npz file")


def _read_safetensors(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    broken = UserError(f"{path}: no checkpoint, or a damaged one: its safetensors header does not fit the file")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, 100 * 2**20):
            raise broken
        try:
            header = json.loads(file.read(length))
            note = header.pop("__metadata__", {})
            entries = [
                (name, _DTYPES.get(e["dtype"]), tuple(e["shape"]), start, end)
                for name, e in header.items()
                for start, end in [e["data_offsets"]]
            ]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise broken from error
        tensors: dict[str, Any] = {}
        room = size - 8 - length  # entries that lie on one another could unpack to any size
        for name, dtype, shape, start, end in entries:
            if dtype is None:
                raise UserError(f"{path}: {name}: dtype {header[name]['dtype']} is not supported; expected float32")
            numbers = (*shape, start, end)
            if not all(isinstance(n, int) and n >= 0 for n in numbers) or end > size - 8 - length:
                raise broken
            if math.prod(shape) * dtype.itemsize != end - start:
                raise UserError(f"{path}: {name}: {end - start} bytes do not make {dtype} of shape {shape}")
            room -= end - start
            if room < 0:
                raise broken
            file.seek(8 + length + start)
            tensors[name] = np.frombuffer(file.read(end - start), dtype).reshape(shape)
    return tensors | _note(note.get("ncl_jax") if isinstance(note, dict) else None)


def _read_zip(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [m.filename for m in members]
            unpacked = sum(m.file_size for m in members)
            if unpacked > _SLACK + _RATIO * path.stat().st_size:
                raise UserError(f"{path}: unpacks to {unpacked / 2**30:.1f} GiB, far more than weights would; refused")
            if any(name.split("/")[1:2] == ["code"] or name.endswith("/constants.pkl") for name in names):
                raise UserError(f"{path}: a TorchScript program, which holds code; refused (save its state_dict)")
            if any(name.split("/")[-1] == "data.pkl" for name in names):
                return _read_torch(path)
            if not names or not all(name.endswith(".npy") for name in names):
                raise UserError(f"{path}: no checkpoint; a zip archive that neither torch nor numpy wrote")
            tensors: dict[str, Any] = {m.filename[:-4]: _npy(path, archive, m) for m in members}
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path}: damaged, or no checkpoint: {first_line(error)}") from error
    note = tensors.pop("ncl_jax", None)
    return tensors | _note(str(note) if note is not None else None)


def _npy(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One array, after a look at its header: its size must be what the archive says, its type a plain number."""
    data = archive.read(member)
    stream = io.BytesIO(data)
    name = member.filename[:-4]
    try:
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(stream)
    except Exception as error:  # numpy parses the header as Python's literals, with all of its parser's errors
        raise UserError(f"{path}: {name}: damaged: {first_line(error)}") from error
    if dtype.hasobject:
        raise UserError(f"{path}: {name}: holds Python objects, which can run code when read; refused")
    if dtype.kind not in "fiubU":  # the text is a note
        raise UserError(f"{path}: {name}: dtype {dtype} is not supported; expected float32")
    if math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise UserError(f"{path}: {name}: {len(data)} bytes do not make {dtype} of shape {shape}")
    array = np.frombuffer(data, dtype, offset=stream.tell())
    return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _read_torch(path: Path) -> dict[str, Any]:
    torch = _torch(path)
    import argparse

    try:
        # Training scripts like to save their arguments; a namespace is data. Everything else but tensors is refused.
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|class|function) ([\w.]+\.[\w.]+)", str(error))
        what = f"{found[1]}" if found else "objects other than tensors"
        raise UserError(
            f"{path}: holds {what}, which could run code when read; refused. "
            "Where you trust the file, save its state_dict alone"
        ) from error
    except Exception as error:  # torch raises whatever its parts raise on broken files
        raise UserError(f"{path}: damaged, or no checkpoint: {first_line(error)}") from error
    if not isinstance(loaded, Mapping):
        raise UserError(f"{path}: holds a {type(loaded).__name__}; expected a dict of tensors")
    return {str(k): _plain(path, str(k), v) for k, v in loaded.items()}


def _plain(path: Path, key: str, value: Any) -> Any:
    """Tensors as numpy arrays; what is neither dict, list, number nor text becomes None."""
    import torch

    if isinstance(value, Mapping):
        return {k: _plain(path, f"{key}.{k}", v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(path, f"{key}.{i}", v) for i, v in enumerate(value)]
    if isinstance(value, torch.Tensor):
        if value.is_meta or value.layout != torch.strided or value.is_quantized:
            raise UserError(f"{path}: {key}: holds no plain numbers; expected a dense tensor")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise UserError(f"{path}: {key}: claims shape {tuple(value.shape)} over less data; refused")
        value = value.detach()
        try:
            array = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
        except TypeError:  # of eight bits or fewer
            array = None
        if array is None or array.dtype.kind not in "fiub":
            raise UserError(f"{path}: {key}: dtype {value.dtype} is not supported; expected float32")
        return array
    return value if isinstance(value, (int, float, str, bool)) else None


def write(path: str | os.PathLike, tree: Mapping[str, Any], *, note: Mapping[str, Any] | None = None) -> None:
    """Write a dict of arrays (`.safetensors`, `.npz`), or a nested one (`.pth` and its like), whole or not at all.

    `note` (JSON) is kept beside the tensors where the format has a place for it; a `.pth` carries it in `tree`.
    """
    path = Path(path).expanduser()
    with _whole(path) as partial:
        if path.name.endswith(TORCH_SUFFIXES):
            torch = _torch(path)
            torch.save(_tensors(tree), partial)
        elif path.suffix == ".safetensors":
            _write_safetensors(partial, tree, note)
        elif path.suffix == ".npz":
            with partial.open("wb") as file:
                np.savez(file, **({"ncl_jax": np.asarray(json.dumps(note))} if note else {}), **tree)
        else:
            raise UserError(f"{path}: unknown kind of file; name it .pth, .safetensors or .npz")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Whole or not at all, too."""
    with _whole(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n")


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """`storage.replacing`; what goes wrong is one line."""
    try:
        with storage.replacing(path) as partial:
            yield partial
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"{path}: cannot be written: {reason}") from error


def _write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], note: Mapping[str, Any] | None) -> None:
    names = {dtype: name for name, dtype in _DTYPES.items()}
    metadata = {"format": "pt"} | ({"ncl_jax": json.dumps(note)} if note else {})
    header: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for name, value in tensors.items():
        header[name] = {
            "dtype": names[value.dtype],
            "shape": value.shape,
            "data_offsets": [offset, offset := offset + value.nbytes],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the data is aligned
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for value in tensors.values():
            file.write(np.ascontiguousarray(value).tobytes())


def _tensors(tree: Any) -> Any:
    import torch

    if isinstance(tree, Mapping):
        return {k: _tensors(v) for k, v in tree.items()}
    if isinstance(tree, list):
        return [_tensors(v) for v in tree]
    return torch.from_numpy(np.array(tree, order="C")) if isinstance(tree, np.ndarray) else tree


def _torch(path: Path) -> Any:
    try:
        import torch
        import torch.serialization
    except ImportError as error:
        raise UserError(f"{path}: {_NEEDS_TORCH}") from error
    return torch


def _note(text: str | None) -> dict[str, Any]:
    try:
        note = json.loads(text) if text else None
    except (ValueError, RecursionError):
        note = None
    return {"ncl_jax": note} if isinstance(note, dict) else {}
