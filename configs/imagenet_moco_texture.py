"""MoCo-v2 with one texture negative, made on the fly, on all of ImageNet, MoCo-v2's own settings (200 epochs, batch
256, 8 x 32 images); read from ImageNet-Texture (`:texture_dataset`); a quilt instead (`:quilt`)."""

from ml_collections import ConfigDict

VARIANTS = ("texture_dataset", "quilt")


def get_config(variant: str | None = None) -> ConfigDict:
    config = ConfigDict()
    config.epochs = 200
    config.batch = 256
    config.data = {"name": "imagenet2012", "train_split": "train", "test_split": "validation", "image_size": 224}
    config.model = {"name": "resnet50", "bn_groups": 8, "dtype": "bfloat16"}
    config.method = {"name": "moco", "momentum": 0.999, "queue_size": 65536}
    config.negatives = {variant or "texture": {"alpha": 2.0}}
    config.optim = {"learning_rate": 0.03, "schedule": "epoch"}
    probe = {"probe_epochs": 100, "probe_batch": 256, "probe_learning_rate": 30.0, "probe_drops": (0.6, 0.8)}
    config.evaluation = {"probe": "augmented", **probe}  # MoCo's
    return config
