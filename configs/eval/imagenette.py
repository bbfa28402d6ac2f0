"""Imagenette in and out of domain; `:augmented` trains the probe on
crops as the paper does, where the default solves it on stored features."""

from ml_collections import ConfigDict

VARIANTS = ("augmented",)


def get_config(variant: str | None = None) -> ConfigDict:
    config = ConfigDict()
    config.data = {
        "name": "imagenette/160px-v2",
        "train_split": "train",
        "test_split": "validation",
        "image_size": 128,
    }
    config.evaluation = {
        "probe": variant or "features",
        "resize": 146,
        "sets": {
            "corruptions": {},
            "stylized": {},  # in each other's styles; by others: {"styles": "folder:PATH"}
            "edges": {},
            "textures": {},
            "sketch": {"kind": "domain", "dataset": "imagenet_sketch"},
            "rendition": {"kind": "domain", "dataset": "imagenet_r"},
            "few_shot": {},
            "finetune_10%": {"kind": "finetune", "share": 0.1},
            "cifar10": {"kind": "transfer", "dataset": "cifar10"},
            "stl10": {"kind": "transfer", "dataset": "stl10"},
            "dtd": {"kind": "transfer", "dataset": "dtd", "train_split": "train+validation"},
            "feature_statistics": {},
        },
    }
    return config
