"""The dataset `imagenet100`: the 100 classes that CMC chose, out of TFDS's prepared `imagenet2012`.

The paper's dataset (section 4.1). The JPEG bytes are copied, not encoded again. A label is the class's place in the
sorted list of WordNet ids, as torchvision's ImageFolder numbers the folders of a copy on disk.
"""

import hashlib
import os
from collections.abc import Iterator
from importlib import resources
from typing import Any

import tensorflow_datasets as tfds

from ncl_jax.data import prepared
from ncl_jax.errors import UserError

SHA256 = "5ee5db69d488bb799a286d8e181801c3d02798776c1ce9203e5450f64e086e07"  # of imagenet100.txt
SOURCE = "imagenet2012"


def classes() -> list[str]:
    """The WordNet ids, sorted; a UserError where the list in the package is not the one that was published."""
    text = resources.files("ncl_jax.data").joinpath("imagenet100.txt").read_text(encoding="ascii")
    if hashlib.sha256(text.encode()).hexdigest() != SHA256:
        raise UserError("dataset imagenet100: imagenet100.txt in the package was changed; install ncl-jax again")
    return text.split()


class Imagenet100(tfds.core.GeneratorBasedBuilder):
    """TFDS builder; splits `train` and `validation`, features image, label, file_name."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="The 100 classes of Contrastive Multiview Coding out of ImageNet 2012",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=classes()),
                    "file_name": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        del dl_manager
        root = self._data_dir_root
        source = tfds.builder(SOURCE, data_dir=root)
        if not source.is_prepared():
            raise UserError(
                f"dataset imagenet100: is made from {SOURCE}, which is not prepared in {root}; put "
                f"ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar in {root}/downloads/manual, "
                f"then run: {prepared.command(SOURCE, data_dir=os.fspath(root))}"
            )
        return {split: self._generate_examples(source, split) for split in ("train", "validation")}

    def _generate_examples(self, source: Any, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        wnids = source.info.features["label"].names
        place = {wnid: label for label, wnid in enumerate(classes())}
        missing = sorted(set(place) - set(wnids))
        if missing:
            raise UserError(f"dataset imagenet100: the prepared {SOURCE} has no class {missing[0]}")
        options = {"split": split, "decoders": {"image": tfds.decode.SkipDecoding()}}
        if source.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
            examples = source.as_data_source(**options)
        else:
            import ncl_jax.data.tf  # noqa: F401  (before TFDS imports TensorFlow its own way)

            examples = source.as_dataset(**options).as_numpy_iterator()
        for example in examples:
            wnid = wnids[example["label"]]
            if wnid in place:
                name = example["file_name"].decode()
                yield name, {"image": example["image"], "label": place[wnid], "file_name": name}
