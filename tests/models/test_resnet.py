"""ResNets and batch norm against PyTorch, and grouped batch norm against separate passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torchvision_reference import import_torchvision

from ncl_jax import config, models, parallel
from ncl_jax.errors import UserError
from ncl_jax.models import BatchNorm, ResNet
from ncl_jax.models.convolution import convolve
from ncl_jax.models.pooling import gathering, max_pool


def torch_weights(network, seed):
    """Torch tensors by name, filled from `seed` so that statistics and scales matter."""
    import torch

    rng = np.random.default_rng(seed)
    weights = {}
    for name, value in network.state_dict().items():
        shape = tuple(value.shape)
        if name.endswith("num_batches_tracked"):
            weights[name] = value
        elif name.endswith("running_var"):
            weights[name] = torch.tensor(rng.uniform(0.5, 1.5, shape), dtype=torch.float32)
        elif len(shape) == 4:
            std = np.sqrt(2 / (shape[0] * shape[2] * shape[3]))
            weights[name] = torch.tensor(rng.normal(0, std, shape), dtype=torch.float32)
        else:
            weights[name] = torch.tensor(rng.normal(0.5, 0.2, shape), dtype=torch.float32)
    return weights


def to_flax(weights):
    """torchvision's names to ours: dots inside a stage become underscores."""
    params, stats = {}, {}
    for name, value in weights.items():
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        *path, leaf = name.split(".")
        if path[0].startswith("layer"):
            path = [f"{path[0]}_{path[1]}", *path[2:]]
            if path[1] == "downsample":
                path = [path[0], "downsample_conv" if path[2] == "0" else "downsample_bn"]
        array = value.numpy()
        if array.ndim == 4:
            leaf, array = "kernel", array.transpose(2, 3, 1, 0)
        tree = stats if leaf.startswith("running") else params
        leaf = {"weight": "scale", "running_mean": "mean", "running_var": "var"}.get(leaf, leaf)
        for part in path:
            tree = tree.setdefault(part, {})
        tree[leaf] = array
    return {"params": params, "batch_stats": stats}


@pytest.mark.parametrize(("name", "size"), [("resnet18", 64), ("resnet50", 64)])
def test_equals_torchvision(name, size):
    torchvision = import_torchvision()
    import torch

    reference = getattr(torchvision.models, name)()
    weights = torch_weights(reference, 0)
    reference.load_state_dict(weights)
    reference.fc = torch.nn.Identity()
    network, variables = ResNet(name), to_flax(weights)
    images = np.random.default_rng(1).normal(size=(4, size, size, 3)).astype(np.float32)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=False))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    torch_images = torch.tensor(images.transpose(0, 3, 1, 2))
    with torch.no_grad():
        expected = reference.eval()(torch_images).numpy()
        got = jax.jit(lambda v, x: network.apply(v, x, train=False))(variables, images)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
        expected = reference.train()(torch_images).numpy()
    got, updated = jax.jit(lambda v, x: network.apply(v, x, train=True, mutable=["batch_stats"]))(variables, images)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    after = to_flax(reference.state_dict())["batch_stats"]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), after, dict(updated["batch_stats"])
    )


def test_width_stem_and_dtype():
    settings = config.Model(name="resnet10", width=0.5, stem="small", dtype="bfloat16")
    network = models.encoder(settings)
    assert network.feature_dim == 256
    variables = network.init(jax.random.key(0), jnp.zeros((2, 16, 16, 3)), train=False)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert variables["params"]["conv1"]["kernel"].shape == (3, 3, 3, 32)
    features = network.apply(variables, jnp.ones((2, 16, 16, 3)), train=False)
    assert features.shape == (2, 256)
    assert features.dtype == jnp.float32


def batch_norm(groups, x, train=True, places=None):
    norm = BatchNorm(groups)
    variables = norm.init(jax.random.key(0), x, train=False)
    return norm.apply(variables, x, train=train, places=places, mutable=["batch_stats"])


@pytest.mark.parametrize(("name", "last"), [("resnet10", "bn2"), ("resnet50", "bn3")])
def test_zero_init_residual_is_torchvisions(name, last):
    """The last batch norm of every block begins with scale 0, all others with 1; none where nobody asks for it."""
    for asked in (False, True):
        model = ResNet(name, width=0.125, stem="small", zero_init_residual=asked)
        params = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)["params"]
        scales = {path: x for path, x in jax.tree_util.tree_leaves_with_path(params) if path[-1].key == "scale"}
        zero = {path for path, scale in scales.items() if not scale.any()}
        assert zero == {path for path in scales if asked and path[-2].key == last}
        assert all((scales[path] == 1).all() for path in scales.keys() - zero)


def test_groups_equal_separate_batches():
    x = jax.random.normal(jax.random.key(0), (12, 4, 4, 5)) * 3 + 1
    whole, stats = batch_norm(3, x)
    parts = [batch_norm(1, part) for part in jnp.split(x, 3)]
    np.testing.assert_allclose(whole, jnp.concatenate([y for y, _ in parts]), atol=1e-5)
    mean = np.mean([s["batch_stats"]["var"] for _, s in parts], axis=0)
    np.testing.assert_allclose(stats["batch_stats"]["var"], mean, rtol=1e-5)


def test_places_are_a_permutation_of_the_batch_without_moving_it():
    """Numbers, statistics and gradient; in eval mode they mean nothing."""
    x = jax.random.normal(jax.random.key(0), (12, 4, 4, 5)) * jnp.arange(1.0, 13)[:, None, None, None]
    order = np.random.default_rng(0).permutation(12)
    weights = jax.random.normal(jax.random.key(1), x.shape)

    def placed(x):
        y, stats = batch_norm(3, x, places=jnp.argsort(order))
        return jnp.sum(y * weights), (y, stats)

    def moved(x):
        y, stats = batch_norm(3, x[order])
        y = jnp.zeros_like(y).at[order].set(y)
        return jnp.sum(y * weights), (y, stats)

    (got, gradient), (expected, its) = (jax.grad(way, has_aux=True)(x)[::-1] for way in (placed, moved))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, expected)
    np.testing.assert_allclose(gradient, its, atol=1e-5)
    assert np.abs(got[0] - batch_norm(3, x)[0]).max() > 0.1
    for way in ({}, {"places": jnp.argsort(order)}):
        np.testing.assert_array_equal(batch_norm(3, x, train=False, **way)[0], batch_norm(3, x, train=False)[0])


def test_statistics_survive_a_large_mean():
    """Against float64: one pass over the activations must not lose the variance to the mean."""
    x = np.random.default_rng(0).normal(30, 1, (64, 8, 8, 2)).astype(np.float32)
    got, _ = batch_norm(1, x)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean((0, 1, 2))) / np.sqrt(wide.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(got, expected, atol=2e-3)


def test_groups_that_stay_on_their_devices_need_no_communication():
    mesh = parallel.data_mesh()
    x = jax.device_put(jnp.ones((16, 2, 2, 4)), parallel.batch_sharding(mesh))
    norm = BatchNorm(8)
    variables = norm.init(jax.random.key(0), x, train=False)

    def forward(variables, x):
        return norm.apply(variables, x, train=True, mutable=["batch_stats"])[0]

    program = jax.jit(forward, out_shardings=parallel.batch_sharding(mesh)).lower(variables, x).compile().as_text()
    assert not any(name in program for name in ("all-reduce", "all-gather", "all-to-all", "collective-permute"))


@pytest.mark.parametrize(
    ("shape", "dtype"), [((32, 32, 3), "float32"), ((2, 3, 32, 32), "float32"), ((2, 32, 32, 3), "uint8")]
)
def test_other_arrays_than_normalised_images_are_refused(shape, dtype):
    with pytest.raises(UserError, match=r"want images \[b h w 3\] as augment.views.normalize makes them, got \w+ \["):
        ResNet("resnet10").init(jax.random.key(0), jnp.zeros(shape, dtype), train=False)


def test_groups_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(UserError, match="5 groups do not divide a batch of 12"):
        batch_norm(5, jnp.ones((12, 3)))


@pytest.mark.parametrize(("size", "side", "stride"), [(4, 3, 1), (4, 3, 2), (2, 3, 1), (4, 1, 2), (7, 3, 2)])
def test_small_maps_equal_the_library_convolution(size, side, stride):
    keys = jax.random.split(jax.random.key(0))
    x, kernel = jax.random.normal(keys[0], (2, size, size, 5)), jax.random.normal(keys[1], (side, side, 5, 7))
    arguments = (x, kernel, (stride, stride), [(side // 2, side // 2)] * 2)
    numbers = jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
    expected = jax.lax.conv_general_dilated(*arguments, dimension_numbers=numbers)
    np.testing.assert_allclose(convolve(*arguments), expected, atol=1e-4)


@pytest.mark.parametrize("padding", ["torch", "same"])
@pytest.mark.parametrize("stem", ["imagenet", "medium"])
@pytest.mark.parametrize("size", [32, 33])
def test_a_gpus_ways_give_the_same_numbers_and_gradients(stem, padding, size, monkeypatch):
    """Stems over blocks of 2 x 2, the pool's gathered gradient: on CPU, in place of the ways that CPUs take."""
    net = ResNet("resnet10", width=0.125, stem=stem, padding=padding)
    x = jax.random.normal(jax.random.key(0), (4, size, size, 3))
    variables = net.init(jax.random.key(1), x, train=True)

    def gradients(params, x):  # without batch statistics, which at the last layer's one pixel magnify rounding
        return jax.grad(lambda p, x: jnp.sum(jnp.sin(net.apply(variables | {"params": p}, x, train=False))), (0, 1))(
            params, x
        )

    def run():
        return jax.jit(lambda *given: gradients(*given))(variables["params"], x)

    usual = run()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    program = str(jax.make_jaxpr(gradients)(variables["params"], x))
    blocks = -(-size // 2) + (3 if stem == "imagenet" else 1)
    assert f"f32[4,{blocks},{blocks},16]" in program
    assert ("select_and" in program) == (stem == "imagenet" and padding == "same")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), run(), usual)


@pytest.mark.parametrize("size", [8, 9])
def test_of_equal_pixels_the_first_gets_the_pools_gradient(size):
    """Few values, many equal: `gathering` chooses as XLA's own gradient does."""
    x = jnp.floor(jax.random.uniform(jax.random.key(0), (2, size, size + 1, 3), minval=-3, maxval=3))
    pooled, usual = jax.vjp(max_pool, x)
    gathered, gradient = jax.vjp(gathering, x)
    np.testing.assert_array_equal(gathered, pooled)
    weights = jax.random.normal(jax.random.key(1), pooled.shape)
    np.testing.assert_allclose(gradient(weights)[0], usual(weights)[0], atol=1e-6)
