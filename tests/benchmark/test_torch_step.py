"""PyTorch's step is the same network on the same images, and what it cannot do is refused."""

import contextlib
import sys

import jax
import numpy as np
import pytest
from torchvision_reference import import_torchvision

from ncl_jax import config, config_file, methods, negatives  # noqa: F401
from ncl_jax.errors import UserError

TINY = {
    "batch": 8,
    "data": {"name": "none", "image_size": 16},
    "model": {"name": "resnet10", "stem": "small"},
    "method": {"name": "moco", "queue_size": 16, "hidden_dim": 16, "embedding_dim": 8},
    "negatives": {"patch": {"num": 2}},
    "evaluation": {"resize": 16},
}


def parse(**changes):
    raw = {key: dict(value) if isinstance(value, dict) else value for key, value in TINY.items()}
    for key, value in changes.items():
        config_file.override(raw, key.replace("__", "."), value)
    return config.parse(raw)


@pytest.fixture(scope="module")
def peer():
    return torch_step(parse())


def torch_step(settings):
    import_torchvision()
    from ncl_jax.benchmark.torch_step import TorchStep

    return TorchStep(settings)


@pytest.mark.parametrize("hidden", [16, 0])
def test_the_network_is_ours(peer, hidden):
    peer = peer if hidden else torch_step(parse(method__hidden_dim=0))
    method = methods.build(peer.config, 8)
    params, _ = jax.eval_shape(method.init, jax.random.key(0), np.zeros((2, 16, 16, 3), np.float32))
    ours = sorted(leaf.size for leaf in jax.tree.leaves(params))
    assert ours == sorted(parameter.numel() for parameter in peer._online.parameters())


@pytest.mark.parametrize(("encoder", "batches"), [("target", 1), ("online", 2)])
def test_the_learning_encoder_sees_negatives_only_with_gradient(encoder, batches):
    """Gradients come back for each batch that goes through it: the queries, and negatives if online."""
    peer = torch_step(parse(method__non_semantic_encoder=encoder))
    seen = []
    peer._online.layer2.register_full_backward_hook(lambda _module, _inputs, gradients: seen.append(len(gradients[0])))
    peer.step()
    assert sorted(seen) == [8, 16][:batches]


def test_no_triton_beside_tensorflow(monkeypatch):
    """A segmentation fault (triton 3.7.1 after TensorFlow 2.21); alone PyTorch may have it, to compile for GPUs."""
    import_torchvision()
    from ncl_jax.benchmark import torch_step

    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.delitem(sys.modules, "triton")
    with contextlib.suppress(UserError):  # torchvision does not fit every PyTorch
        torch_step.import_torch()
    assert sys.modules["triton"] is None


def test_steps_move_weights_target_and_queue(peer):
    torch = pytest.importorskip("torch")
    online, target = ([p.detach().clone() for p in n.parameters()] for n in (peer._online, peer._target))
    queue, pointer = peer._queue.clone(), peer._pointer
    for run in (peer.step, peer.augment_and_step):
        pending = run()
        pending.block_until_ready()
        assert torch.isfinite(pending.loss)
    assert all(not torch.equal(a, b) for a, b in zip(online, peer._online.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(target, peer._target.parameters(), strict=True))
    changed = (queue != peer._queue).any(0).numpy()
    assert changed.all()
    assert peer._pointer == (pointer + 16) % 16
    np.testing.assert_allclose(torch.linalg.norm(peer._queue, dim=0), 1, rtol=1e-5)


def test_patches_are_of_their_image_and_square(peer):
    torch = pytest.importorskip("torch")
    images = torch.arange(3 * 3 * 16 * 16.0).reshape(3, 3, 16, 16)
    made = peer._patches(images, parse(negatives__patch__patch_size=(5, 5)).negatives["patch"])
    made = made.unflatten(0, (3, 2)).numpy()
    for image, negatives_of_it in zip(images.numpy(), made, strict=True):
        assert set(negatives_of_it.ravel()) <= set(image.ravel())
    # Inside the tile at (0, 0) of side 5, neighbours stay neighbours; across its border almost never.
    right = np.diff(made[:, :, 0], axis=-1)
    down = np.diff(made[:, :, 0], axis=-2)
    assert (right[..., :4] == 1).all()
    assert (down[..., :4, :5] == 16).all()
    assert not (right[..., 4] == 1).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"model__width": 0.5},
        {"method": {"name": "byol"}},
        {"optim__name": "lars"},
        {"negatives__patch__rotate": True},
        {"method__head_batch_norm": True},
        {"method__non_semantic_norm": "shared"},
        {"method__ifm_epsilon": 0.1},
        {"augment__recipe": "byol"},
        {"augment__recipe": "moco_v1"},
        {"augment__seam_shift": 2},
    ],
)
def test_what_has_no_counterpart_is_refused(changes):
    import_torchvision()
    from ncl_jax.benchmark.torch_step import TorchStep

    with pytest.raises(UserError, match="no counterpart"):
        TorchStep(parse(**changes))


def test_it_is_refused_before_anything_is_compiled(monkeypatch):
    import_torchvision()
    from ncl_jax.benchmark import program, step
    from ncl_jax.benchmark.result import Options

    monkeypatch.setattr(program, "build", lambda *_: pytest.fail("compiled"))
    with pytest.raises(UserError, match="no counterpart"):
        step.run(Options(parse(method__symmetric=True), against="torch"))
