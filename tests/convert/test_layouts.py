"""Each framework's file is recognised by its keys; what is no plain ResNet is refused in a line that names the key."""

import json

import numpy as np
import pytest

from ncl_jax.convert import files, load_torch, names, save_torch
from ncl_jax.errors import UserError


def head_norm(prefix, size):
    return {f"{prefix}.{leaf}": np.ones(size, np.float32) for leaf in ("running_mean", "running_var")}


@pytest.fixture
def read(tmp_path):
    def apply(tensors, **options):
        np.savez(tmp_path / "a.npz", **tensors)
        return load_torch(tmp_path / "a.npz", **options)

    return apply


def test_moco(read, backbone, mlp):
    tensors = {"module.queue": np.eye(16, 8, dtype=np.float32), "module.queue_ptr": np.array([4])}
    for seed, name in enumerate(("encoder_q", "encoder_k")):
        tensors |= backbone(f"module.{name}.", seed=seed) | mlp(f"module.{name}.fc.", (64, 32, 16))
    network = read({f"state_dict.{key}": value for key, value in tensors.items()})
    assert network.layout == "MoCo"
    assert network.describe() == ("resnet18, width 0.125, stem imagenet, head 64-32-16, EMA target, queue 8 x 16")
    assert (network.ignored, network.pointer) == ((), 4)
    kernels = [v["backbone"]["params"]["conv1"]["kernel"] for v in ({"backbone": network.variables}, network.target)]
    for kernel, name in zip(kernels, ("encoder_q", "encoder_k"), strict=True):
        np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), tensors[f"module.{name}.conv1.weight"])


def test_moco_v3(read, backbone, mlp):
    tensors = mlp("module.predictor.", (16, 32, 16), batch_norm=True) | head_norm("module.predictor.4", 16)
    for name in ("base_encoder", "momentum_encoder"):
        tensors |= backbone(f"module.{name}.") | mlp(f"module.{name}.fc.", (64, 32, 16), batch_norm=True)
        tensors |= head_norm(f"module.{name}.fc.4", 16)
    network = read(tensors)
    assert (network.layout, network.ignored) == ("MoCo-v3", ())
    assert set(network.heads) == {"projector", "predictor"}
    assert set(network.target) == {"backbone", "projector"}
    assert set(network.heads["projector"]["batch_stats"]) == {"bn0", "bn1"}


def test_lightly_in_a_lightning_checkpoint(read, backbone, mlp):
    sequence = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    tensors = mlp("projection_head.layers.", (64, 32, 16), batch_norm=True) | {"criterion.w": np.ones(1)}
    for name in ("backbone", "backbone_momentum"):
        for key, value in backbone().items():
            first, _, rest = key.partition(".")
            tensors[f"{name}.{sequence[first]}.{rest}"] = value
    network = read({f"state_dict.{key}": value for key, value in tensors.items()})
    assert (network.layout, network.ignored) == ("lightly", ("state_dict.criterion.w",))
    assert set(network.heads) == {"projector"}
    assert set(network.target) == {"backbone"}


@pytest.mark.parametrize(("side", "padding"), [(7, "torch"), (3, "wide")])
def test_solo_learn_pads_its_small_stem_by_two(side, padding, read, backbone, mlp):
    tensors = backbone("backbone.", side=side) | mlp("projector.", (64, 32, 16))
    network = read(tensors | backbone("momentum_backbone.", side=side))
    assert (network.layout, network.padding) == ("solo-learn", padding)
    assert set(network.target) == {"backbone"}
    assert network.encoder().padding == padding


def test_simsiam(read, backbone, mlp):
    tensors = mlp("module.encoder.fc.", (64, 32, 16)) | mlp("module.predictor.", (16, 8, 16))
    network = read(tensors | backbone("module.encoder."))
    assert (network.layout, set(network.heads)) == ("SimSiam", {"projector", "predictor"})


def test_byol_of_haiku(read, backbone):
    """Axes, names and padding; that the numbers are Haiku's own was checked against dm-haiku 0.0.17 (2e-6)."""
    tensors, source = {}, backbone(architecture="resnet50")
    layers = {"conv1": "initial_conv", "bn1": "initial_batchnorm"}
    leaves = {"weight": "scale", "bias": "offset"}
    for key, value in source.items():
        *parts, leaf = key.split(".")
        if parts[0].startswith("layer"):
            kind = {"0": "shortcut_conv", "1": "shortcut_batchnorm"}[parts[3]] if len(parts) == 4 else None
            kind = kind or parts[2][:-1].replace("bn", "batchnorm") + f"_{int(parts[2][-1]) - 1}"
            name = f"block_group_{int(parts[0][-1]) - 1}/~/block_{parts[1]}/~/{kind}"
        else:
            name = layers[parts[0]]
        if value.ndim == 4:
            tensors[f"online_params/res_net50/~/{name}/w"] = value.transpose(2, 3, 1, 0)
        elif leaf.startswith("running"):
            ema = f"online_state/res_net50/~/{name}/~/{leaf.removeprefix('running_')}_ema"
            tensors |= {f"{ema}/average": value.reshape(1, 1, 1, -1), f"{ema}/counter": np.ones((), np.int32)}
        else:
            tensors[f"online_params/res_net50/~/{name}/{leaves[leaf]}"] = value.reshape(1, 1, 1, -1)
    network = read(tensors)
    assert (network.layout, network.architecture, network.padding) == ("BYOL (Haiku)", "resnet50", "same")
    assert network.ignored == ()
    plain = read(source)
    np.testing.assert_equal(network.variables, plain.variables)
    with pytest.raises(UserError, match="pads as TensorFlow does"):
        save_torch(network, "unused.npz")


def test_others(read, backbone, tmp_path, monkeypatch):
    def full(*_, **__):
        raise UserError("the disk is full")

    assert read(backbone()).layout == "torchvision"
    assert read(backbone("model.module.")).layout == "torchvision"
    assert read(backbone("trunk.")).layout == "weights under 'trunk.'"
    fc = {"fc.weight": np.ones((5, 512), np.float32), "fc.bias": np.ones(5, np.float32)}
    network = read(backbone(width=1) | fc)
    assert network.describe() == "resnet18, stem imagenet, 5 classes"
    save_torch(network, tmp_path / "folder", "timm")
    assert load_torch(tmp_path / "folder").layout == "timm"
    assert load_torch(tmp_path / "folder" / "model.safetensors").layout == "timm"
    with_no_classes = read(backbone(width=1))
    with monkeypatch.context() as patch:
        patch.setattr(files, "write", full)
        with pytest.raises(UserError, match="disk"):
            save_torch(with_no_classes, tmp_path / "folder", "timm")
    # The older weights keep their own description.
    assert json.loads((tmp_path / "folder" / "config.json").read_text())["num_classes"] == 5
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match=r"is a run's workdir, whose config\.json would be lost"):
        save_torch(network, tmp_path / "run", "timm")


def test_what_detectron2_does_otherwise_by_default_is_said(read, backbone):
    """Where strides are and how images are scaled is in no key."""
    tensors = {f"backbone.bottom_up.{names.to_detectron2(key)}": value for key, value in backbone().items()}
    network = read(tensors)
    assert network.layout == "detectron2 (taken to be of STRIDE_IN_1X1 False, RGB, PIXEL_STD as ImageNet's)"
    np.testing.assert_equal(network.variables, read(backbone()).variables)


def test_what_swav_keeps_among_the_layers_is_left_out(read, backbone, mlp):
    heads = mlp("module.projection_head.", (64, 32, 16), batch_norm=True)
    heads["module.prototypes.weight"] = np.ones((30, 16), np.float32)
    network = read(backbone("module.") | heads)
    assert (network.layout, set(network.ignored)) == ("torchvision", set(heads))


def test_momentum_of_several_groups_is_left_out(backbone, mlp, tmp_path):
    """No key tells which parameters are in which: here batch norm's come last."""
    torch = pytest.importorskip("torch")
    tensors = backbone("encoder_q.") | mlp("encoder_q.fc.", (64, 32, 16))
    buffers = [torch.from_numpy(value) for key, value in tensors.items() if "running" not in key]
    groups = [{"params": [p]} for p in range(len(buffers))]

    def momentum(groups):
        optimizer = {"state": {n: {"momentum_buffer": b} for n, b in enumerate(buffers)}, "param_groups": groups}
        state = {key: torch.from_numpy(value) for key, value in tensors.items()}
        torch.save({"state_dict": state, "optimizer": optimizer}, tmp_path / "a.pth")
        return load_torch(tmp_path / "a.pth").momentum

    assert momentum([{"params": list(range(len(buffers)))}]) is not None
    assert momentum(groups) is None


def test_stem_of_three_by_three(read, backbone, tmp_path, caplog):
    with caplog.at_level("WARNING"):
        assert read(backbone(side=3)).stem == "small"
    assert "stride of its 3x3 first convolution is: taken for 1, stem small" in caplog.text
    network = read(backbone(side=3), stem="medium")
    save_torch(network, tmp_path / "b.npz")
    assert load_torch(tmp_path / "b.npz").stem == "medium"  # the file says so itself
    with pytest.raises(UserError, match="stem 'medium': the first convolution is 7 x 7; expected imagenet"):
        read(backbone(), stem="medium")


def without(tensors, key):
    return {name: value for name, value in tensors.items() if name != key}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda t: t | {"layer2.0.conv1.weight": np.ones((16, 7, 3, 3), np.float32)},
         r"layer2.0.conv1.weight: shape \(16, 7, 3, 3\), resnet18 expects \(16, 8, 3, 3\)"),
        (lambda t: without(t, "layer3.1.bn2.running_var"),
         r"layer3.1.bn2.running_var: missing; resnet18 expects shape \(32\)"),
        (lambda t: t | {"layer3.1.se.weight": np.ones(3)},
         "layer3.1.se.weight: unexpected; resnet18 has no such tensor"),
        (lambda t: t | {"bn1.num_batches_tracked": np.zeros(0, np.int64)},
         r"bn1.num_batches_tracked: shape \(0\), expected one number"),
        (lambda t: without(t, "conv1.weight") | {"conv1.0.weight": np.ones(3)},
         "conv1.weight: missing; a deep stem of several convolutions is not supported"),
        (lambda t: t | {"conv1.weight": np.ones((8, 1, 7, 7), np.float32)},
         r"conv1.weight: shape \(8, 1, 7, 7\), expected \(channels, 3, side, side\) of an RGB stem"),
        (lambda t: t | {"layer4.2.conv1.weight": np.ones(3)},
         r"layer1.0.conv1.weight: basic blocks \(2, 2, 2, 3\) per stage; known: resnet10 \(1, 1, 1, 1\)"),
        (lambda t: {"cls_token": np.ones(3), "blocks.0.attn.qkv.weight": np.ones(3)},
         r"cls_token: a vision transformer; expected a ResNet \(layer1.0.conv1.weight\)"),
        (lambda t: {"features.0.weight": np.ones(3)},
         "features.0.weight: no ResNet; expected a key that ends in layer1.0.conv1.weight"),
        (lambda t: {}, "no checkpoint; a zip archive|holds no tensors"),
    ],
)  # fmt: skip
def test_what_is_no_plain_resnet_is_one_line(change, line, read, backbone):
    with pytest.raises(UserError, match=line) as error:
        read(change(backbone()))
    assert str(error.value).count("\n") == 0
    assert "a.npz" in str(error.value)


def test_wide_bottlenecks_are_told_by_the_convolution_that_is_wider(read, backbone):
    tensors = backbone(architecture="resnet50")
    tensors["layer1.0.conv1.weight"] = np.ones((16, 8, 1, 1), np.float32)
    with pytest.raises(
        UserError, match=r"layer1.0.conv1.weight: shape \(16, 8, 1, 1\), resnet50 expects \(8, 8, 1, 1\)"
    ):
        read(tensors)


def test_target_of_another_architecture(read, backbone):
    with pytest.raises(UserError, match=r"encoder_k\.: is a resnet10, expected resnet18 like encoder_q\."):
        read(backbone("encoder_q.") | backbone("encoder_k.", architecture="resnet10"))


@pytest.mark.parametrize(
    ("tensors", "line"),
    [
        ({"fc.weight": np.ones((3, 32), np.float32)}, r"fc: takes 32 features, resnet18 of width 0\.125 has 64"),
        (
            {"fc.weight": np.ones((3, 64), np.complex64)},
            "fc.weight: dtype complex64 is not supported; expected float32",
        ),
    ],
)
def test_a_classifier_that_cannot_be_the_networks_is_refused(tensors, line, read, backbone):
    with pytest.raises(UserError, match=line):
        read(backbone() | tensors)


@pytest.mark.parametrize(("pointer", "told"), [([], r"\[\]"), ([1, 2], r"\[1, 2\]"), ([8], r"\[8\]")])
def test_a_pointer_that_is_no_place_of_the_queue_is_refused(pointer, told, read, backbone, mlp):
    tensors = {"queue": np.eye(16, 8, dtype=np.float32), "queue_ptr": np.array(pointer, np.int64)}
    tensors |= backbone("encoder_q.") | mlp("encoder_q.fc.", (64, 32, 16))
    with pytest.raises(UserError, match=f"queue_ptr: {told}, expected one place of the 8 of queue"):
        read(tensors)


def test_a_head_of_another_width_is_refused(read, backbone, mlp):
    with pytest.raises(UserError, match=r"head: takes 48 features, resnet18 of width 0\.125 has 64"):
        read(backbone("encoder_q.") | mlp("encoder_q.fc.", (48, 32, 16)))
