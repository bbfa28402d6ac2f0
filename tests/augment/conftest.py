"""Images for the augmentations: synthetic ones always, photographs where they are at hand."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def photographs(shared_data) -> np.ndarray:
    """Six photographs, uint8 `[6 96 128 3]`, straight from the archive."""
    images = []
    with tarfile.open(shared_data / "imagenet_fullsize_207.tar.gz") as archive:
        for member in archive:
            if member.isfile() and member.name.lower().endswith((".jpg", ".jpeg")):
                data = archive.extractfile(member)
                assert data is not None
                image = Image.open(io.BytesIO(data.read())).convert("RGB").resize((128, 96))
                images.append(np.asarray(image))
            if len(images) == 6:
                break
    return np.stack(images)


@pytest.fixture(params=["synthetic", "photographs"])
def images(request) -> np.ndarray:
    """uint8 `[b h w 3]`; the synthetic ones hold every hue, greys, black and white."""
    if request.param == "photographs":
        return request.getfixturevalue("photographs")
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (40, 52, 3))
    ramp = np.stack(np.broadcast_arrays(*np.ogrid[0:256:40j, 0:256:52j], 128), -1)
    flat = rng.choice([0, 51, 255], (40, 52, 3))
    grey = np.broadcast_to(rng.integers(0, 256, (40, 52, 1)), (40, 52, 3))
    return np.stack([noise, ramp, flat, grey]).astype(np.uint8)
