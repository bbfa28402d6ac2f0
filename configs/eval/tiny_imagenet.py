"""Tiny-ImageNet in and out of domain: set --config.data.name=folder:PATH of train/ and val/, one folder a class;
`:augmented` trains the probe on crops as the paper does, where the default solves it on stored features."""

from ml_collections import ConfigDict

VARIANTS = ("augmented",)


def get_config(variant: str | None = None) -> ConfigDict:
    config = ConfigDict()
    config.data = {"name": "folder:data/tiny_imagenet", "train_split": "train", "test_split": "val", "image_size": 64}
    config.evaluation = {
        "probe": variant or "features",
        "resize": 64,
        "sets": {
            "corruptions": {},
            "stylized": {},  # in each other's styles; by others: {"styles": "folder:PATH"}
            "edges": {},
            "textures": {},
            "sketch": {"kind": "domain", "dataset": "imagenet_sketch"},
            "rendition": {"kind": "domain", "dataset": "imagenet_r"},
            "adversarial": {"kind": "domain", "dataset": "imagenet_a"},
            "v2": {"kind": "domain", "dataset": "imagenet_v2/matched-frequency"},
            "cue_conflict": {"dataset": "geirhos_conflict_stimuli"},  # of the categories that have a class here
            "few_shot": {},
            "finetune_10%": {"kind": "finetune", "share": 0.1},
            "cifar10": {"kind": "transfer", "dataset": "cifar10"},
            "cifar100": {"kind": "transfer", "dataset": "cifar100"},
            "dtd": {"kind": "transfer", "dataset": "dtd", "train_split": "train+validation"},
            "feature_statistics": {},
        },
    }
    return config
