"""Files are read for their numbers only: what is damaged, or could run code, is refused in one line."""

import json
import os
import pickle
import zipfile

import numpy as np
import pytest

from ncl_jax.convert import files, load_torch, save_torch
from ncl_jax.errors import UserError

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(3, np.int64)}


class Code:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def equal(tree, expected):
    assert set(tree) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(tree[name], value)
        assert tree[name].dtype == value.dtype


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors", "a.pth", "a.pth.tar"])
def test_written_and_read(name, tmp_path):
    if ".pth" in name:
        pytest.importorskip("torch")
    files.write(tmp_path / name, TENSORS)
    equal(files.read(tmp_path / name), TENSORS)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_safetensors_as_its_own_library_has_them(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file(TENSORS, tmp_path / "theirs.safetensors")
    equal(files.read(tmp_path / "theirs.safetensors"), TENSORS)
    files.write(tmp_path / "ours.safetensors", TENSORS, note={"stem": "small"})
    equal(numpy.load_file(tmp_path / "ours.safetensors"), TENSORS)
    assert files.read(tmp_path / "ours.safetensors")["ncl_jax"] == {"stem": "small"}


def test_torch_files_old_and_half(tmp_path):
    torch = pytest.importorskip("torch")
    value = torch.tensor([1.5, 2.5])
    torch.save({"x": value.bfloat16(), "y": [value.half()], "z": object}, tmp_path / "refused.pth")
    with pytest.raises(UserError, match="which could run code when read; refused"):
        files.read(tmp_path / "refused.pth")
    torch.save({"x": value.bfloat16(), "y": [value.half()]}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    tree = files.read(tmp_path / "old.pth")
    np.testing.assert_array_equal(tree["x"], [1.5, 2.5])
    assert tree["y"][0].dtype == np.float16


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "complex64"])
def test_torch_files_of_other_numbers_are_refused(dtype, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"x": [torch.ones(2).to(getattr(torch, dtype))]}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=f"a.pth: x.0: dtype torch.{dtype} is not supported; expected float32"):
        files.read(tmp_path / "a.pth")


def test_code_is_never_run(tmp_path):
    torch = pytest.importorskip("torch")
    trap = tmp_path / "ran"
    torch.save({"state_dict": {"a": torch.ones(1)}, "hook": Code(trap)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a.pth: holds \w+.mkdir, which could run code when read; refused"):
        files.read(tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps({"a": Code(trap)}))
    with pytest.raises(UserError, match=r"b.pth: a plain pickle, which can run code when it is read; refused"):
        files.read(tmp_path / "b.pth")
    np.savez(tmp_path / "c.npz", a=np.array([Code(trap)], object))
    with pytest.raises(UserError, match=r"c.npz: a: holds Python objects, which can run code when read; refused"):
        files.read(tmp_path / "c.npz")
    with zipfile.ZipFile(tmp_path / "d.pt", "w") as archive:
        archive.writestr("net/data.pkl", b"")
        archive.writestr("net/code/__torch__.py", "def forward(x): return x")
    with pytest.raises(UserError, match=r"d.pt: a TorchScript program, which holds code; refused"):
        files.read(tmp_path / "d.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "e.pth")
    with pytest.raises(UserError, match=r"e.pth: holds torch.nn.modules.linear.Linear, .* save its state_dict alone"):
        files.read(tmp_path / "e.pth")
    assert not trap.exists()


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


FLOATS = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "no checkpoint, or a damaged one; expected a .pth, .safetensors or .npz file"),
        (b"\x00" * 100, "no checkpoint, or a damaged one; expected a .pth, .safetensors or .npz file"),
        (b"PK\x03\x04 and no more", "damaged, or no checkpoint: File is not a zip file"),
        (safetensors({"a": FLOATS}, b"1234"), "its safetensors header does not fit the file"),
        (safetensors({"a": FLOATS | {"data_offsets": [0, 4, 8]}}, b"12345678"), "its safetensors header does not fit"),
        (safetensors(b"{no json"), "its safetensors header does not fit the file"),
        (safetensors({"a": FLOATS | {"shape": [3]}}, b"12345678"), "a: 8 bytes do not make float32 of shape"),
        (safetensors({"a": FLOATS | {"dtype": "F4"}}, b"12345678"), "a: dtype F4 is not supported; expected float32"),
        ((10**12).to_bytes(8, "little") + b"{}", "its safetensors header does not fit the file"),
        (safetensors({"a": FLOATS, "b": FLOATS}, b"12345678"), "its safetensors header does not fit the file"),
        (safetensors(b'{"a":' * 50_000), "its safetensors header does not fit the file"),
    ],
)
def test_damage_is_one_line(content, line, tmp_path):
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(UserError, match=line) as error:
        files.read(tmp_path / "a.bin")
    assert str(error.value).startswith(str(tmp_path / "a.bin"))
    assert "\n" not in str(error.value)


def test_a_bomb_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(200 * 2**20))
    with pytest.raises(UserError, match=r"unpacks to 0.2 GiB, far more than weights would; refused"):
        files.read(tmp_path / "a.npz")


def test_absent_files_and_wrong_places(backbone, tmp_path):
    with pytest.raises(UserError, match=r"no.pth: cannot be read: No such file or directory"):
        files.read(tmp_path / "no.pth")
    with pytest.raises(UserError, match=r"a folder without model.safetensors or pytorch_model.bin; name a file"):
        files.read(tmp_path)
    np.savez(tmp_path / "a.npz", **backbone())
    network = load_torch(tmp_path / "a.npz")
    with pytest.raises(UserError, match="layout 'keras': unknown; one of torchvision, timm, moco, detectron2"):
        save_torch(network, tmp_path / "b.npz", "keras")
    with pytest.raises(UserError, match=r"b.npz: layout moco is written as .pth, .*; name the file so"):
        save_torch(network, tmp_path / "b.npz", "moco")
    with pytest.raises(UserError, match=r"b.npz: no folder .*no; make it first"):
        save_torch(network, tmp_path / "no" / "b.npz")
    np.savez(tmp_path / "small.npz", **backbone(side=3))
    small = load_torch(tmp_path / "small.npz")
    with pytest.raises(UserError, match="timm's ResNets have no 'small' stem"):
        save_torch(small, tmp_path / "timm", "timm")
    with pytest.raises(UserError, match="detectron2 has no resnet18 with stem 'small'"):
        save_torch(small, tmp_path / "b.pth", "detectron2")
    with pytest.raises(UserError, match=r"timm's ResNets have no width 0.125"):
        save_torch(network, tmp_path / "timm", "timm")
    np.savez(tmp_path / "whole.npz", **backbone(architecture="resnet10", width=1))
    with pytest.raises(UserError, match=r"a.npz: cannot be made: File exists"):
        save_torch(load_torch(tmp_path / "whole.npz"), tmp_path / "a.npz" / "model.safetensors", "timm")
