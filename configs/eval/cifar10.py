"""CIFAR-10 in and out of domain; `:augmented` trains the probe on
crops as the paper does, where the default solves it on stored features."""

from ml_collections import ConfigDict

VARIANTS = ("augmented",)


def get_config(variant: str | None = None) -> ConfigDict:
    config = ConfigDict()
    config.data = {"name": "cifar10", "train_split": "train", "test_split": "test", "image_size": 32}
    config.evaluation = {
        "probe": variant or "features",
        "resize": 32,
        "sets": {
            "corruptions": {},
            "stylized": {},  # in each other's styles; by others: {"styles": "folder:PATH"}
            "edges": {},
            "textures": {},
            "cifar10_1": {"kind": "domain", "dataset": "cifar10_1/v6"},
            "cifar10_c": {"kind": "corruptions", "dataset": "cifar10_corrupted"},  # as it was published
            "few_shot": {},
            "finetune_10%": {"kind": "finetune", "share": 0.1},
            "cifar100": {"kind": "transfer", "dataset": "cifar100"},
            "svhn_cropped": {"kind": "transfer", "dataset": "svhn_cropped"},
            "feature_statistics": {},
        },
    }
    return config
