"""TFDS builders of texture datasets: `imagenet_texture`, and `textures` for any source; also on Apache Beam.

They give the records of `build_examples`, as `build` does, under TFDS's own `download_and_prepare`: in one process, or
where apache-beam is installed and asked for on its runners. Only `build` can go on where it stopped.
"""

import contextlib
import dataclasses
import io
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from ncl_jax.data import datasets
from ncl_jax.data.texture_datasets import IMAGENET
from ncl_jax.errors import UserError
from ncl_jax.textures import build, build_examples
from ncl_jax.textures.build_examples import Recipe


@dataclasses.dataclass
class TextureConfig(tfds.core.BuilderConfig):
    recipe: Recipe | None = None
    splits: tuple[str, ...] = ()  # all of the source's by default
    beam: bool = False


class Textures(tfds.core.GeneratorBasedBuilder):
    """The texture version of any dataset: `Textures(config=texture_config(recipe), data_dir=...)`."""

    VERSION = tfds.core.Version(build.VERSION)

    @property
    def recipe(self) -> Recipe:
        """What is built; the source lies in this builder's own data_dir where the config names none."""
        config: Any = self.builder_config
        if not isinstance(config, TextureConfig) or config.recipe is None:
            raise UserError(f"dataset {self.name}: needs a config of `texture_config`; or: ncl-jax textures --dataset=")
        return dataclasses.replace(config.recipe, data_dir=config.recipe.data_dir or str(self._data_dir_root))

    @property
    def splits(self) -> tuple[str, ...]:
        config: Any = self.builder_config
        return config.splits or datasets.split_names(self.recipe.source, data_dir=self.recipe.data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        if (self.data_path / "features.json").exists():  # built: to read it, the source need not be there
            features = tfds.features.FeaturesDict.from_config(str(self.data_path))
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)
        return build_examples.info(self, self.recipe, self.recipe.open(self.splits[0]))

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return {split: self._generate_examples(split) for split in self.splits}

    def _generate_examples(self, split: str) -> Any:
        recipe, config = self.recipe, self.builder_config
        if not config.beam:  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
            return _examples(recipe, split, 0, recipe.open(split).num_examples)
        beam = _import_beam()
        parts = [(shard.low, shard.high) for shard in build.shards_of(recipe, split, "")]
        return (
            f"{split} parts" >> beam.Create(parts)
            | f"{split} apart" >> beam.Reshuffle()
            | f"{split} textures" >> beam.FlatMap(lambda part: _examples(recipe, split, *part))
        )


class ImagenetTexture(Textures):
    """ImageNet-Texture: `imagenet_texture/imagenet2012` and `imagenet_texture/imagenet100`."""

    BUILDER_CONFIGS = [  # noqa: RUF012
        TextureConfig(name=source, description=f"of {source}", recipe=Recipe(source)) for source in IMAGENET
    ]


def texture_config(recipe: Recipe, *, splits: tuple[str, ...] = (), beam: bool = False) -> TextureConfig:
    """The config under which `recipe` is built, named as `ncl-jax textures` names it."""
    name = recipe.name.partition("/")[2]
    return TextureConfig(name=name, description=f"of {recipe.source}", recipe=recipe, splits=splits, beam=beam)


def build_on_beam(recipe: Recipe, splits: tuple[str, ...], options: str) -> str:
    """Build by TFDS on a Beam runner; `options` as `tfds build --beam_pipeline_options`. Returns the folder."""
    beam_options = parse_options(options)
    kind = ImagenetTexture if recipe.name.startswith("imagenet_texture/") else Textures
    builder = kind(config=texture_config(recipe, splits=splits, beam=True), data_dir=recipe.data_dir)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(beam_options=beam_options, try_download_gcs=False)
    )
    return str(builder.data_path)


def _examples(recipe: Recipe, split: str, low: int, high: int) -> Iterator[tuple[int, dict[str, Any]]]:
    for example in build_examples.examples(recipe, recipe.open(split), low, high):
        yield example["id"], example


def parse_options(options: str) -> Any:
    """Beam's own, seen to give a pipeline; UserError for a wrong one."""
    beam = _import_beam()
    from apache_beam.options.pipeline_options import PipelineOptions

    said = io.StringIO()  # by the parser, which then exits
    try:
        with contextlib.redirect_stderr(said):
            parsed = PipelineOptions(flags=[f"--{flag}" for flag in options.split(",") if flag])
            parsed.get_all_options()  # or a wrong one is noticed by the runner only
            beam.Pipeline(options=parsed)
    except (ValueError, SystemExit) as error:
        reason = said.getvalue().rpartition("error: ")[2] or str(error)
        raise UserError(f"--beam_options={options}: {' '.join(reason.split())}") from error
    return parsed


def _import_beam() -> Any:
    try:
        import apache_beam
    except ImportError as error:
        raise UserError(f"--beam_options needs apache-beam ({error}); pip install apache-beam") from error
    return apache_beam
