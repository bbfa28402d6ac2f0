"""Images in the style of others: classical, and AdaIN against PyTorch."""

import jax.numpy as jnp
import numpy as np
import pytest

from ncl_jax.data import drawing
from ncl_jax.errors import UserError
from ncl_jax.evaluation import adain, stylize

CONTENT = np.stack([drawing.draw((1, i), i, i, 40) for i in range(3)])
STYLE = np.stack([drawing.draw((2, i), 5 + i, 9 - i, 40) for i in range(3)])


def moments(image):
    colours = np.asarray(image, np.float64).reshape(-1, 3)
    return colours.mean(0), np.cov(colours.T, bias=True)


def test_recolour_gives_the_models_mean_and_covariance():
    content, style = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    style = style**2 + 0.2 * style[..., :1]
    got, want = moments(stylize.recolour(content, style)), moments(style)
    np.testing.assert_allclose(got[0], want[0], atol=2e-4)
    np.testing.assert_allclose(got[1], want[1], atol=2e-4)


def test_forms_stay_and_colours_and_surface_become_the_styles():
    made = np.asarray(stylize.stylize(CONTENT, STYLE))
    assert (made.shape, made.dtype) == (CONTENT.shape, np.uint8)
    for content, style, result in zip(CONTENT, STYLE, made, strict=True):
        np.testing.assert_allclose(result.mean((0, 1)), style.mean((0, 1)), atol=20)

        def coarse(image):
            return image.astype(np.float32).mean(axis=2).reshape(8, 5, 8, 5).mean(axis=(1, 3)).ravel()

        # Dark may become light: the map of colours keeps no order of lumas.
        forms = abs(np.corrcoef(coarse(result), coarse(content))[0, 1])
        assert forms > 0.5
        assert forms > abs(np.corrcoef(coarse(result), coarse(style))[0, 1])


def test_in_its_own_style_an_image_keeps_its_looks():
    made = np.asarray(stylize.stylize(CONTENT[:1], CONTENT[:1])).astype(np.float32)
    assert np.abs(made - CONTENT[:1]).mean() < 12


def test_a_result_depends_on_its_pair_alone():
    together = np.asarray(stylize.stylize(CONTENT, STYLE)).astype(int)
    alone = np.asarray(stylize.stylize(CONTENT[2:], STYLE[2:])).astype(int)
    assert np.mean(np.abs(together[2] - alone[0]) > 1) < 0.01


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """AdaIN's encoder and decoder in PyTorch with random weights, and their files."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)

    def conv(a, b):
        return [nn.ReflectionPad2d(1), nn.Conv2d(a, b, 3), nn.ReLU()]

    def pool():
        return nn.MaxPool2d(2, 2, 0, ceil_mode=True)

    def double():
        return nn.Upsample(scale_factor=2, mode="nearest")

    encoder = [nn.Conv2d(3, 3, 1), *conv(3, 64), *conv(64, 64), pool(), *conv(64, 128), *conv(128, 128), pool()]
    encoder += [*conv(128, 256), *conv(256, 256), *conv(256, 256), *conv(256, 256), pool(), *conv(256, 512)]
    decoder = [*conv(512, 256), double(), *conv(256, 256), *conv(256, 256), *conv(256, 256), *conv(256, 128), double()]
    decoder += [*conv(128, 128), *conv(128, 64), double(), *conv(64, 64), *conv(64, 3)[:2]]
    encoder, decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)
    with torch.no_grad():
        decoder[-1].bias += 0.5  # inside [0, 1], where nothing is cut off
    folder = tmp_path_factory.mktemp("adain")
    paths = [str(folder / name) for name in ("vgg_normalised.pth", "decoder.pth")]
    # The published file goes on to relu5_4: what is behind is not read.
    whole = nn.Sequential(*encoder, *conv(512, 512))
    torch.save(whole.state_dict(), paths[0])
    torch.save(decoder.state_dict(), paths[1])
    return encoder, decoder, paths


def test_adain_equals_pytorch(networks):
    import torch

    encoder, decoder, paths = networks
    content, style = (x.astype(np.float32) / 255 for x in (CONTENT[:2], STYLE[:2]))
    with torch.no_grad():
        a, b = (encoder(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())) for x in (content, style))

        def moments(x):
            flat = x.flatten(2)
            return flat.mean(2)[..., None, None], (flat.var(2) + 1e-5).sqrt()[..., None, None]

        (mean, deviation), (goal, wanted) = moments(a), moments(b)
        want = decoder((a - mean) / deviation * wanted + goal).clamp(0, 1).numpy().transpose(0, 2, 3, 1)
    got = adain.stylize(adain.load(*paths), jnp.asarray(content), jnp.asarray(style))
    assert np.ptp(want) > 0.005
    np.testing.assert_allclose(got, want, atol=2e-4)


def test_other_weights_are_one_line(networks):
    with pytest.raises(
        UserError, match=r"decoder\.pth: no weights of AdaIN: 0\.weight has shape \[0\], want 3 filters"
    ):
        adain.load(*networks[2][::-1])
