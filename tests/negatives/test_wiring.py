"""From image files to negatives: every kind, alone and mixed, as training and preview see them."""

import dataclasses
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from builders import encoded, picture

from ncl_jax import config as config_lib
from ncl_jax import config_file, methods, negatives, parallel, preview, step  # noqa: F401  (methods bring their settings)
from ncl_jax.augment import views as augment_views
from ncl_jax.benchmark import collectives
from ncl_jax.data import stream
from ncl_jax.errors import UserError

SIDE = 32
KINDS = tuple(negatives.REGISTRY)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """16 smooth images: squares, wide and tall ones."""
    root = tmp_path_factory.mktemp("images")
    (root / "train" / "any").mkdir(parents=True)
    for index in range(16):
        image = picture(index, *((60, 60), (45, 90), (90, 45))[index % 3])
        (root / "train" / "any" / f"{index}.png").write_bytes(encoded(image, "PNG"))
    return f"folder:{root}"


def config_of(images, kinds, **settings):
    raw = {
        "batch": 16,
        "epochs": 2,
        "data": {"name": images, "image_size": SIDE},
        "model": {"name": "resnet10", "width": 0.125, "stem": "small"},
        "method": {"name": "moco", "queue_size": 64, "hidden_dim": 16, "embedding_dim": 8},
        "evaluation": {"resize": SIDE},
        "negatives": {kind: {} for kind in kinds},
    }
    if "texture_dataset" in kinds:
        raw["negatives"]["texture_dataset"] = {"names": images}
    for key, value in settings.items():
        config_file.override(raw, key, value)
    return config_lib.parse(raw)


def batch_of(config):
    return next(stream.TrainStream(stream.open_train(config), config, fields=negatives.needs(config.negatives)))


def test_an_image_that_is_its_own_texture_gives_the_query(images):
    """Its crop, flip, colour and blur, whatever the image's proportions."""
    config = config_of(images, ("texture_dataset",))
    batch = batch_of(config)
    spans = batch["box"][:, 2:] - batch["box"][:, :2]
    assert len({tuple(span) for span in spans}) == 16
    views = jax.jit(lambda key, b: step.make_views(config, key, b))(jax.random.key(0), batch)
    one, other = (np.asarray(augment_views.denormalize(x)) for x in (views["query"], views["non_semantic"][:, 0]))
    inner = (slice(None), slice(1, -1), slice(1, -1))  # at its border a crop of the file sees what is beyond
    assert np.abs(one - other)[inner].max() < 0.06  # resized twice, rounded to bytes in between
    assert np.abs(one - other).mean() < 0.005
    assert np.abs(one - other[::-1]).mean() > 0.1
    unflipped = np.abs(one[:, :, ::-1] - other).mean((1, 2, 3))
    assert (unflipped > np.abs(one - other).mean((1, 2, 3))).all()


@pytest.mark.parametrize("kinds", [(), ("quilt", "patch"), ("texture",), ("texture_dataset", "texture")], ids="+".join)
def test_nothing_is_on_the_wire_that_is_not_needed(images, kinds):
    config = config_of(images, kinds, **({"negatives.texture.alpha": 3} if "texture" in kinds else {}))
    extra = {"texture": "source", "texture_dataset": "texture"}
    expected = {"query", "key", "box", "label", "key_order"} | {extra[kind] for kind in kinds if kind in extra}
    assert batch_of(config).keys() == expected
    np.testing.assert_array_equal(negatives.alphas(config.negatives), [3.0 if k == "texture" else 2.0 for k in kinds])


def test_eight_devices_make_the_negatives_of_one_and_send_no_images(images):
    config = config_of(images, KINDS, **{"augment.blur_probability": 0.0, "negatives.texture.quality": "draft"})
    # Of a few hundred textures one has two places that fit alike to the last bit, and rounding, which depends on how
    # many images a device has, decides between them. With this key none of the 16 has.
    batch, key = batch_of(config), jax.random.key(1)
    made = []
    for devices in (1, 8):
        mesh = parallel.data_mesh(jax.devices()[:devices])
        split, whole = parallel.batch_sharding(mesh), parallel.replicated(mesh)

        def views(key, batch, mesh=mesh):
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                return step.make_views(config, key, batch)["non_semantic"]

        compiled = jax.jit(views, in_shardings=(whole, split), out_shardings=split).lower(key, batch).compile()
        made.append(np.asarray(compiled(key, batch)))
    assert made[0].shape == (16, len(KINDS), SIDE, SIDE, 3)
    np.testing.assert_allclose(*made, atol=1e-4)
    numbers = [math.prod(shape) for _, shape in collectives.arrays(compiled.as_text())]
    assert max(numbers, default=0) < 16 * SIDE  # an image has 3072


def test_preview_shows_them(images, tmp_path):
    from PIL import Image

    preview.write(config_of(images, ("texture_dataset", "quilt")), tmp_path / "all.png", rows=2)
    columns = 2 + 2
    shown = np.asarray(Image.open(tmp_path / "all.png"))
    assert shown.shape[1] == columns * (4 * SIDE + 6) + 6


@pytest.mark.parametrize(
    ("kinds", "settings", "message"),
    [
        (("texture_dataset",), {"num": 2}, "texture_dataset.num = 2: names has 1"),
        (("texture_dataset",), {"names": ()}, "make it with: ncl-jax textures --dataset=folder"),
        (("texture",), {"exemplar_size": 64}, "exemplar_size = 64: a patch is larger"),
        (("texture",), {"quality": "best"}, "negatives.texture.quality = 'best'"),
        (("quilt",), {"patch_size": (4, 32)}, "quilt: patch_size = .4, 32. with overlap = 1 does not fit"),
    ],
)
def test_refusals(images, tmp_path, kinds, settings, message):
    changes = {f"negatives.{kinds[0]}.{key}": value for key, value in settings.items()}
    with pytest.raises(UserError, match=message):
        stream.open_train(config_of(images, kinds, **changes, **{"data.data_dir": str(tmp_path)}))


def test_values_that_are_not_finite_are_told_before_the_first_step(images, tmp_path, monkeypatch):
    """Compiled, the encoder may make numbers of them: the loss of such a run looked well."""
    generate = negatives.quilt.generate
    monkeypatch.setattr(negatives.quilt, "generate", lambda *given: generate(*given) * jnp.nan)
    with pytest.raises(UserError, match=r"^negatives\.quilt: generate gives values that are not finite$"):
        preview.write(config_of(images, ("patch", "quilt")), tmp_path / "n.png")
    assert not any(tmp_path.iterdir())


def test_a_kind_of_ones_own_needs_no_change_here(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Settings:
        alpha: float = 2.0
        num: int = 1

    def generate(key, views, settings, recipe):
        return views["query"][:, None]

    monkeypatch.setattr(negatives, "REGISTRY", dict(negatives.REGISTRY))
    monkeypatch.setattr(config_lib, "NEGATIVES", dict(config_lib.NEGATIVES))
    negatives.register("same", types.SimpleNamespace(Settings=Settings, generate=generate))
    chosen = config_lib.parse({"negatives": {"same": {"alpha": 3.0}}}).negatives
    assert chosen == {"same": Settings(alpha=3.0)}
    query = jnp.ones((2, 8, 8, 3))
    made = negatives.generate(jax.random.key(0), {"query": query}, chosen, None)
    np.testing.assert_array_equal(made, query[:, None])

    class Unmarked:
        alpha = 2.0

    @dataclasses.dataclass
    class Thawed:
        alpha: float = 2.0
        num: int = 1

    @dataclasses.dataclass(frozen=True)
    class Single:
        alpha: float = 2.0

    for settings, function, message in (
        (Unmarked, generate, "want Settings, a frozen dataclass"),
        (Thawed, generate, "want Settings, a frozen dataclass"),
        (Single, generate, "Settings has no num"),
        (Settings, lambda key, views: None, "want a function generate of 4 arguments"),
        (Settings, None, "want a function generate of 4 arguments"),
    ):
        with pytest.raises(UserError, match=message):
            negatives.register("bad", types.SimpleNamespace(Settings=settings, generate=function))
    assert "bad" not in negatives.REGISTRY
    assert "bad" not in config_lib.NEGATIVES


@pytest.mark.parametrize("wrong", [np.s_[:, 0], np.s_[:, :1], np.s_[:, :, 1:]])
def test_a_kind_that_gives_other_images_than_asked_for_is_one_line(wrong, monkeypatch):
    """Without an axis for them, too few, too small."""
    made = np.zeros((4, 2, SIDE, SIDE, 3), np.float32)
    monkeypatch.setattr(negatives.patch, "generate", lambda *_: made[wrong])
    with pytest.raises(UserError, match=r"negatives\.patch: generate gives an array \[4, .*, not \[4, 2, 32, 32, 3\]"):
        negatives.generate(jax.random.key(0), {"query": made[:, 0]}, {"patch": negatives.patch.Settings(num=2)}, None)
