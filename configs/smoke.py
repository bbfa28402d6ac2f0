"""Seconds of everything, for tests: a tiny network on a few hundred tiny images."""

from ml_collections import ConfigDict


def get_config(variant: str | None = None) -> ConfigDict:
    config = ConfigDict()
    config.epochs = 4
    config.batch = 32
    config.log_every = 2
    config.data = {
        "name": "shapes_textures",
        "train_split": "train[:256]",
        "test_split": "test[:128]",
        "image_size": 32,
    }
    config.augment = {"blur_probability": 0.0}
    config.model = {"name": "resnet10", "width": 0.125, "stem": "medium"}
    config.method = {"name": "moco", "queue_size": 64, "momentum": 0.99, "hidden_dim": 32, "embedding_dim": 16}
    config.negatives = {"patch": {}}
    config.optim = {"learning_rate": 0.02}
    config.evaluation = {"every_epochs": 2, "knn_k": 20, "resize": 32, "cue_conflict_split": "cue_conflict[:128]"}
    return config
