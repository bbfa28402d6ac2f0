"""MoCo-v2 with patch negatives on Imagenette at 128 px; `:baseline` without negatives, `:texture`, `:texture_dataset`
and `:quilt` with those instead; `:byol` and `:byol_baseline` are BYOL."""

from ml_collections import ConfigDict

VARIANTS = ("baseline", "texture", "texture_dataset", "quilt", "byol", "byol_baseline")


def get_config(variant: str | None = None) -> ConfigDict:
    config = ConfigDict()
    config.epochs = 800
    config.batch = 256
    config.data = {"name": "imagenette/160px-v2", "train_split": "train", "test_split": "validation", "image_size": 128}
    config.model = {"name": "resnet18", "bn_groups": 8, "dtype": "bfloat16"}
    config.method = {"name": "moco", "momentum": 0.99, "queue_size": 4096}
    config.negatives = {} if variant == "baseline" else {variant or "patch": {"alpha": 2.0}}
    config.optim = {"learning_rate": 0.06, "per_256": True, "weight_decay": 5e-4}
    if variant in ("byol", "byol_baseline"):
        config.augment = {"recipe": "byol"}
        config.model["bn_groups"] = 1
        config.method = {"name": "byol", "momentum": 0.99, "hidden_dim": 1024}
        config.negatives = {} if variant == "byol_baseline" else {"patch": {}}
    config.evaluation = {"every_epochs": 20, "resize": 146}
    config.checkpoint = {"every_epochs": 20}  # an epoch takes a GPU seconds, as a save does
    return config
