"""MoCo-v2 on ImageNet-100 with one texture negative per query, made on the fly: the paper's settings and alpha 2
(`:paper`, the default); read from ImageNet-Texture, as the paper did (`:texture_dataset`: first `ncl-jax textures
--dataset=imagenet100`); the settings of implicit feature modification (`:ifm`); a quilt instead (`:quilt`)."""

from ml_collections import ConfigDict

VARIANTS = ("paper", "texture_dataset", "ifm", "quilt")


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
        config.method = {"name": "moco", "momentum": 0.999, "queue_size": 16384}
        config.model = {"name": "resnet50", "bn_groups": 4, "dtype": "bfloat16"}  # 32 images each, as MoCo's
    config.method["non_semantic_norm"] = "shuffled"  # as the paper's code
    config.epochs = 200
    config.data = {"name": "imagenet100", "train_split": "train", "test_split": "validation", "image_size": 224}
    config.negatives = {variant if variant in ("texture_dataset", "quilt") else "texture": {"alpha": 2.0}}
    config.evaluation = {"probe": "augmented"}
    return config
