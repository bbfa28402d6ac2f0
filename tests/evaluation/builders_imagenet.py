"""TFDS's imagenet2012_real and geirhos_conflict_stimuli in their features and splits, with a few drawn images."""

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from builders import encoded
from tensorflow_datasets.core import registered

from ncl_jax.data import drawing
from ncl_jax.evaluation import imagenet_classes


def theirs(name):
    return tfds.builder(name, data_dir="/nonexistent").info


def real_labels(index):
    """Numbers of ImageNet's classes: one of the three that the probe knows, that and another one, none, or another."""
    wnids = [c.wnid for c in imagenet_classes.classes()]
    known = wnids.index(("n02690373", "n02132136", "n03041632")[index % 3])
    return [[known], [known, 0], [], [known]][index % 4]


with registered.skip_registration():  # TFDS has its own of these names

    class Imagenet2012Real(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        @staticmethod
        def image(index):
            """The bytes of a JPEG."""
            return encoded(drawing.draw((3, index), index % 10, index % 10, 32))

        def _info(self):
            info = theirs("imagenet2012_real")
            return tfds.core.DatasetInfo(builder=self, features=info.features, supervised_keys=info.supervised_keys)

        def _split_generators(self, dl_manager):
            return {"validation": self._generate_examples()}

        def _generate_examples(self):
            for index in range(12):
                name = f"ILSVRC2012_val_{index + 1:08}.JPEG"
                labels = {"original_label": 0, "real_label": real_labels(index)}
                yield name, {"image": self.image(index), "file_name": name, **labels}

    class GeirhosConflictStimuli(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        folder: Path

        def _info(self):
            info = theirs("geirhos_conflict_stimuli")
            return tfds.core.DatasetInfo(builder=self, features=info.features, supervised_keys=info.supervised_keys)

        def _split_generators(self, dl_manager):
            return {"test": self._generate_examples()}

        def _generate_examples(self):
            for path in sorted(self.folder.glob("*/*.png")):
                shape, texture = (word.rstrip("0123456789") for word in path.stem.split("-"))
                empty = {"shape_imagenet_labels": np.zeros(0, int), "texture_imagenet_labels": np.zeros(0, int)}
                example = {"image": str(path), "file_name": path.name, "shape_label": shape, "texture_label": texture}
                yield path.name, example | empty
