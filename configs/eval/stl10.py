"""STL-10 in and out of domain, probes on its 5,000 labelled images; `:augmented` trains the probe on
crops as the paper does, where the default solves it on stored features."""

from ml_collections import ConfigDict

VARIANTS = ("augmented",)


def get_config(variant: str | None = None) -> ConfigDict:
    config = ConfigDict()
    config.data = {"name": "stl10", "train_split": "train", "test_split": "test", "image_size": 96}
    config.evaluation = {
        "probe": variant or "features",
        "resize": 96,
        "sets": {
            "corruptions": {},
            "stylized": {},  # in each other's styles; by others: {"styles": "folder:PATH"}
            "edges": {},
            "textures": {},
            "few_shot": {},
            "finetune_10%": {"kind": "finetune", "share": 0.1},
            "cifar10": {"kind": "transfer", "dataset": "cifar10"},
            "dtd": {"kind": "transfer", "dataset": "dtd", "train_split": "train+validation"},
            "feature_statistics": {},
        },
    }
    return config
