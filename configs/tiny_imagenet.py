"""MoCo-v2 with patch negatives on Tiny-ImageNet (a folder of train/ and val/, one folder a class);
`:baseline` without negatives, `:texture`, `:texture_dataset` and `:quilt` with those instead; `:byol` and
`:byol_baseline` are BYOL. Set --config.data.name=folder:PATH."""

from ml_collections import ConfigDict

VARIANTS = ("baseline", "texture", "texture_dataset", "quilt", "byol", "byol_baseline")


def get_config(variant: str | None = None) -> ConfigDict:
    config = ConfigDict()
    config.epochs = 200
    config.batch = 256
    config.data = {"name": "folder:data/tiny_imagenet", "train_split": "train", "test_split": "val", "image_size": 64}
    config.augment = {"recipe": "moco_v2", "blur_probability": 0.0}  # at this size a blur leaves nothing
    config.model = {"name": "resnet18", "stem": "small", "bn_groups": 8, "dtype": "bfloat16"}
    config.method = {"name": "moco", "momentum": 0.99, "queue_size": 16384}
    config.negatives = {} if variant == "baseline" else {variant or "patch": {"alpha": 2.0}}
    config.optim = {"learning_rate": 0.06, "per_256": True, "weight_decay": 5e-4}
    if variant in ("byol", "byol_baseline"):
        config.augment["recipe"] = "byol"
        config.model["bn_groups"] = 1
        config.method = {"name": "byol", "momentum": 0.99, "hidden_dim": 1024}
        config.negatives = {} if variant == "byol_baseline" else {"patch": {}}
    config.evaluation = {"every_epochs": 10, "resize": 64}
    config.checkpoint = {"every_epochs": 10}  # an epoch takes a GPU seconds, as a save does
    return config
