"""Converted ResNets and heads compute what PyTorch's modules do, and come back as the same bits."""

import itertools

import numpy as np
import pytest

from ncl_jax import models
from ncl_jax.convert import load_torch, names, save_torch
from ncl_jax.convert.layouts import load
from ncl_jax.convert.verify import check_equal, verify
from ncl_jax.errors import UserError

torch = pytest.importorskip("torch")
IMAGES = np.random.default_rng(0).normal(size=(4, 64, 64, 3)).astype(np.float32)


def torch_features(module, train):
    outputs = []
    hook = module.avgpool.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.flatten(1)))
    with torch.no_grad():
        logits = module.train(train)(torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy()))
    hook.remove()
    return outputs[0].numpy(), logits.numpy()


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_both_directions_equal_torchvision(name, torchvision, fill, tmp_path):
    theirs = fill(getattr(torchvision.models, name)(num_classes=10))
    before = {key: value.clone() for key, value in theirs.state_dict().items()}
    torch.save(before, tmp_path / "in.pth")
    network = load_torch(tmp_path / "in.pth")
    assert (network.architecture, network.stem, network.layout, network.ignored) == (
        name,
        "imagenet",
        "torchvision",
        (),
    )
    for train in (False, True):
        features, updated = network.encoder().apply(network.variables, IMAGES, train=train, mutable=["batch_stats"])
        logits = np.asarray(features) @ network.classifier["kernel"] + network.classifier["bias"]
        expected = torch_features(theirs, train)
        np.testing.assert_allclose(features, expected[0], atol=1e-4)
        np.testing.assert_allclose(logits, expected[1], atol=1e-4)
    after = theirs.state_dict()
    np.testing.assert_allclose(updated["batch_stats"]["bn1"]["var"], after["bn1.running_var"], atol=1e-5)

    save_torch(network, tmp_path / "out.pth")
    back = getattr(torchvision.models, name)(num_classes=10)
    back.load_state_dict(torch.load(tmp_path / "out.pth"), strict=True)
    assert list(back.state_dict()) == list(before)
    assert all(torch.equal(value, before[key]) for key, value in back.state_dict().items())


def test_bare_variables_with_a_small_first_convolution_need_a_word(backbone, tmp_path):
    variables = names.to_tree(backbone(side=3))
    with pytest.raises(UserError, match="3 x 3 first convolution: say how it is used, stem='medium' or 'small'"):
        save_torch(variables, tmp_path / "a.npz")
    save_torch(variables, tmp_path / "a.npz", stem="medium")
    network = load_torch(tmp_path / "a.npz")
    assert repr(network) == f"Network({network.describe()})"
    assert network.stem == "medium"


def test_bare_variables_are_a_backbone_for_torchvision(backbone, torchvision, tmp_path):
    save_torch(names.to_tree(backbone(width=1)), tmp_path / "ours.pth")
    theirs = torchvision.models.resnet18(num_classes=3)
    missing, unexpected = theirs.load_state_dict(torch.load(tmp_path / "ours.pth"), strict=False)
    assert (missing, unexpected) == (["fc.weight", "fc.bias"], [])


def sequential(*widths, norm=False):
    layers = []
    for before, after in itertools.pairwise(widths):
        last = after == widths[-1]
        layers.append(torch.nn.Linear(before, after, bias=last or not norm))
        if not last:
            layers += [torch.nn.BatchNorm1d(after), torch.nn.ReLU()] if norm else [torch.nn.ReLU()]
    return torch.nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("widths", "norm"), [((512, 64, 32), False), ((512, 48, 64, 32), False), ((512, 64, 32), True)]
)
def test_heads_equal_pytorch(widths, norm, torchvision, fill, tmp_path):
    encoder = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])
    encoder.fc = sequential(*widths, norm=norm)
    fill(encoder)
    state = {f"module.encoder_q.{key}": value.clone() for key, value in encoder.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "moco.pth")
    network = load_torch(tmp_path / "moco.pth")
    head, mlp = network.heads["head"], models.MLP(widths[1:], batch_norm=norm)
    for train in (False, True):
        features, expected = torch_features(encoder, train)
        outputs, _ = mlp.apply(head, features, train=train, mutable=["batch_stats"])
        np.testing.assert_allclose(outputs, expected, atol=1e-4)
    save_torch(network, tmp_path / "back.pth", "moco")
    back = torch.load(tmp_path / "back.pth")["state_dict"]
    assert set(back) == set(state)
    assert all(torch.equal(back[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("torchvision", "a.npz"),
        ("torchvision", "a.safetensors"),
        ("timm", "a"),
        ("moco", "a.pth.tar"),
        ("detectron2", "a.pth"),
    ],
)
def test_every_layout_is_read_again_bit_for_bit(layout, file, backbone, tmp_path):
    np.savez(tmp_path / "in.npz", **backbone(width=1))
    network = load_torch(tmp_path / "in.npz")
    save_torch(network, tmp_path / file, layout)
    again = load_torch(tmp_path / file)
    check_equal(again, network)
    assert again.layout in (layout, "MoCo")


def test_what_mocos_scripts_cannot_resume_from_is_said(backbone, mlp, tmp_path):
    pytest.importorskip("torch")
    queue = {"queue": np.eye(16, 8, dtype=np.float32), "queue_ptr": np.array([4])}
    for head, width, missing in (
        ((512, 512, 16), 1, "no momentum"),
        ((512, 64, 16), 1, "a head other than v1's or v2's, no momentum"),
        ((64, 64, 16), 0.125, "width 0.125, no momentum"),
    ):
        tensors = dict(queue)
        for name in ("encoder_q", "encoder_k"):
            tensors |= backbone(f"{name}.", width=width) | mlp(f"{name}.fc.", head)
        np.savez(tmp_path / "in.npz", **tensors)
        lines = save_torch(load_torch(tmp_path / "in.npz"), tmp_path / "a.pth", "moco")
        assert lines == [f"MoCo's scripts cannot --resume from it: {missing}"]
    np.savez(tmp_path / "bare.npz", **backbone(width=1))
    (line,) = save_torch(load_torch(tmp_path / "bare.npz"), tmp_path / "b.pth", "moco")
    assert line.endswith("from it: no head, no target, no queue, no momentum")


def test_verify_sees_a_single_wrong_weight(backbone, tmp_path):
    tensors = backbone(architecture="resnet10") | {"fc.weight": np.ones((3, 64), np.float32)}
    np.savez(tmp_path / "a.npz", **tensors)
    network, tensors = load(tmp_path / "a.npz")
    found = verify(network, tensors, batch=2)
    kinds = ("eval features", "eval logits", "train features", "train logits", "running statistics")
    assert set(found) == set(kinds)
    tensors["layer2.0.conv1.weight"] = tensors["layer2.0.conv1.weight"].copy()
    tensors["layer2.0.conv1.weight"][0, 0] += 0.1
    with pytest.raises(UserError, match="--verify: eval features differ by"):
        verify(network, tensors, batch=2)
    tensors["layer2.0.conv1.weight"][0, 0] = np.nan
    with pytest.raises(UserError, match="--verify: eval features differ by nan"):
        verify(network, tensors, batch=2)


def test_verify_takes_no_predictor_for_what_follows_the_backbone(backbone, mlp, tmp_path):
    """SimSiam's projector has biases before batch norm, which our MLP has not: then features are all that compares."""
    tensors = backbone("encoder.", architecture="resnet10") | mlp("encoder.fc.", (64, 32, 16), batch_norm=True)
    np.savez(tmp_path / "a.npz", **tensors, **mlp("predictor.", (16, 8, 16)))
    network, tensors = load(tmp_path / "a.npz")
    assert (network.layout, set(network.heads)) == ("SimSiam", {"projector", "predictor"})
    assert set(verify(network, tensors, batch=2)) == {"eval features", "train features", "running statistics"}
