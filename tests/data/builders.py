"""Small real TFDS builders and image files for the tests of `ncl_jax.data`; all written into a temporary folder."""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core import registered

from ncl_jax.data.imagenet100 import classes

IMAGENET = tfds.builder("imagenet2012", data_dir="/nonexistent").info.features["label"].names


def picture(index: int, height: int = 40, width: int = 50) -> np.ndarray:
    """A smooth picture whose colours depend on `index`; uint8 `[h w 3]`."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(0.05 * (channel + 1) * x + 0.03 * y + index + channel) for channel in range(3)]
    return np.uint8(127 + 120 * np.stack(waves, axis=-1))


def encoded(image: np.ndarray, kind: str = "JPEG", mode: str | None = None, **options) -> bytes:
    """The bytes of an image file; `mode` is Pillow's (L, CMYK, RGBA, ...)."""
    file = io.BytesIO()
    made = Image.fromarray(image)
    (made.convert(mode) if mode else made).save(file, kind, **options)
    return file.getvalue()


class Jpegs(tfds.core.GeneratorBasedBuilder):
    """60 JPEGs of different sizes, 3 classes; records 7 and 20 of `bad` and all of `rotten` do not decode."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=3)}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in ("train", "bad", "rotten")}

    def _generate_examples(self, split):
        for index in range(60):
            image = encoded(picture(index, 40 + index % 7, 50 + index % 11))
            if split == "rotten" or (split == "bad" and index in (7, 20)):
                image = image[: len(image) // 2]
            yield index, {"image": image, "label": index % 3}


class Unlabelled(tfds.core.GeneratorBasedBuilder):
    """4 images of one size, no labels."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(16, 16, 3))})
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index in range(4):
            yield index, {"image": picture(index, 16, 16)}


with registered.skip_registration():  # TFDS has its own of this name

    class Imagenet2012(tfds.core.GeneratorBasedBuilder):
        """TFDS's imagenet2012 in its features and splits, with 2 images of each of 103 classes."""

        VERSION = tfds.core.Version("5.1.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=IMAGENET),
                "file_name": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in ("train", "validation")}

        def _generate_examples(self, split):
            kept = [*classes(), *[wnid for wnid in IMAGENET if wnid not in classes()][:3]]
            for index in range(206):
                label = kept[index % 103]
                name = f"{label}_{split}_{index}.JPEG"
                yield name, {"image": encoded(picture(index, 12, 15)), "label": label, "file_name": name}
