"""Seconds of everything, for tests: a tiny network on a few hundred tiny images. Variants: the other methods."""

from ml_collections import ConfigDict

VARIANTS = ("byol", "simclr", "moco_v3")


def get_config(variant: str | None = None) -> ConfigDict:
    config = ConfigDict()
    config.epochs = 4
    config.batch = 32
    config.log_every = 2
    config.data = {
        "name": "shapes_textures",
        "train_split": "train[:128]",
        "test_split": "test[:128]",
        "image_size": 32,
    }
    config.augment = {"recipe": "byol" if variant == "byol" else "moco_v2", "blur_probability": 0.0}
    config.model = {"name": "resnet10", "width": 0.125, "stem": "medium"}
    config.method = {"name": variant or "moco", "hidden_dim": 32, "embedding_dim": 16}
    if variant is None:
        config.method.update({"queue_size": 64, "momentum": 0.99})
    config.negatives = {"patch": {}}
    config.optim = {"learning_rate": 0.02}
    sets = {"cue_conflict": {"split": "cue_conflict[:128]"}}
    config.evaluation = {"every_epochs": 2, "knn_k": 20, "resize": 32, "sets": sets, "online": ("cue_conflict",)}
    return config
