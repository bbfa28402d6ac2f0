"""MoCo with patch negatives on CIFAR-10: ResNet-18 with a small stem, 200 epochs, as MoCo's own CIFAR demo sets it;
`:baseline` without negatives, `:texture`, `:texture_dataset` and `:quilt` with those instead; `:byol` and
`:byol_baseline` are BYOL."""

from ml_collections import ConfigDict

VARIANTS = ("baseline", "texture", "texture_dataset", "quilt", "byol", "byol_baseline")


def get_config(variant: str | None = None) -> ConfigDict:
    config = ConfigDict()
    config.epochs = 200
    config.batch = 512
    config.log_every = 97  # an epoch, which takes a GPU a second
    config.data = {"name": "cifar10", "train_split": "train", "test_split": "test", "image_size": 32}
    # At this size a blur leaves nothing.
    config.augment = {"recipe": "moco_v2", "crop_scale": (0.08, 1.0), "blur_probability": 0.0}
    config.model = {"name": "resnet18", "stem": "small", "bn_groups": 8, "dtype": "bfloat16"}
    config.method = {
        "name": "moco",
        "temperature": 0.1,
        "momentum": 0.99,
        "queue_size": 4096,
        "hidden_dim": 0,  # a linear head: with MoCo-v2's the embeddings collapse (configs/study/cifar10.py:heads)
        "non_semantic_encoder": "online",  # by the paper's, target, patches of alpha 2 cost 9 points of kNN there
    }
    config.negatives = {}
    if variant not in ("baseline", "byol", "byol_baseline"):
        # Where all cosines are near 1, negatives outweigh the queue's K keys if (alpha - 1) / temperature > log K: the
        # paper's 2, set for a temperature of .2 and 16,384 keys, is too much here. At first the queue is random
        # besides, its cosines 0, and 1.5 outweighs it too: hence it rises.
        config.negatives = {variant or "patch": {"alpha": 1.5}}
        config.alpha_warmup_epochs = 10.0
    config.optim = {"learning_rate": 0.03, "per_256": True, "weight_decay": 5e-4}
    if variant in ("byol", "byol_baseline"):
        config.augment["recipe"] = "byol"
        config.model["bn_groups"] = 1
        config.method = {"name": "byol", "momentum": 0.99, "hidden_dim": 1024}
        config.negatives = {} if variant == "byol_baseline" else {"patch": {}}
    config.evaluation = {"every_epochs": 50, "resize": 32}  # on a GPU it takes as long as three epochs
    config.checkpoint = {"every_epochs": 50}  # and a save as long as one
    return config
