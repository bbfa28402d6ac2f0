"""The demo: MoCo-v2 with patch negatives on the built-in shapes and textures, minutes on two CPU cores."""

from ml_collections import ConfigDict

VARIANTS = ("baseline",)


def get_config(variant: str | None = None) -> ConfigDict:
    config = ConfigDict()
    config.epochs = 30
    config.batch = 128
    config.log_every = 31
    config.data = {
        "name": "shapes_textures",
        "test_split": "test",
        "image_size": 32,
    }
    config.augment = {"recipe": "moco_v2", "blur_probability": 0.0}
    config.model = {"name": "resnet10", "width": 0.25, "stem": "medium", "bn_groups": 8}
    config.method = {"name": "moco", "queue_size": 1024, "momentum": 0.996, "hidden_dim": 256, "embedding_dim": 64}
    config.negatives = {} if variant == "baseline" else {"patch": {"alpha": 2.0}}
    config.optim = {"learning_rate": 0.06, "weight_decay": 5e-4, "warmup_epochs": 1}
    config.evaluation = {
        "every_epochs": 5,
        "knn_k": 50,
        "resize": 32,
        "cue_conflict_split": "cue_conflict",
    }
    config.checkpoint = {"every_epochs": 5}
    return config
