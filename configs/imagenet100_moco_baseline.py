"""MoCo-v2 on ImageNet-100 without negatives: the paper's baseline (`:paper`, the default), with its smaller queue
(`:queue8192`), and in the settings of implicit feature modification (`:ifm`)."""

from ml_collections import ConfigDict

VARIANTS = ("paper", "queue8192", "ifm")


def get_config(variant: str | None = None) -> ConfigDict:
    config = ConfigDict()
    if variant == "ifm":  # Robinson et al. 2021
        config.batch = 512
        config.optim = {"learning_rate": 0.8, "schedule": "epoch"}
        config.method = {"name": "moco", "momentum": 0.99, "queue_size": 65536}
        config.model = {"name": "resnet50", "bn_groups": 8, "dtype": "bfloat16"}  # 64 images each
    else:
        config.batch = 128
        config.optim = {"learning_rate": 0.03, "schedule": "epoch"}
        config.method = {"name": "moco", "momentum": 0.999, "queue_size": 8192 if variant == "queue8192" else 16384}
        config.model = {"name": "resnet50", "bn_groups": 4, "dtype": "bfloat16"}  # 32 images each, as MoCo's
    config.epochs = 200
    config.data = {"name": "imagenet100", "train_split": "train", "test_split": "validation", "image_size": 224}
    config.evaluation = {"probe": "augmented"}
    return config
