"""The paper's evaluation: ImageNet-100 (100 classes of ImageNet) in and out of domain, with the paper's linear probe;
`:fast` solves the probe on stored features instead."""

from ml_collections import ConfigDict

VARIANTS = ("fast",)
# Datasets of TFDS, and what the transfer probes learn from: the splits that other papers take.
TRANSFER = {
    "cifar10": "train",
    "cifar100": "train",
    "stl10": "train",
    "dtd": "train+validation",
    "oxford_flowers102": "train+validation",
    "caltech_birds2011": "train",
    "caltech101": "train",
    "oxford_iiit_pet": "train",
}


def get_config(variant: str | None = None) -> ConfigDict:
    config = ConfigDict()
    config.data = {"name": "imagenet100", "train_split": "train", "test_split": "validation", "image_size": 224}
    texture = (
        "imagenet_texture/imagenet100-faithful"  # made by: ncl-jax textures --dataset=imagenet100 --quality=faithful
    )
    config.evaluation = {
        "probe": "features" if variant == "fast" else "augmented",
        "resize": 256,
        "sets": {
            "corruptions": {},
            "sketch": {"kind": "domain", "dataset": "imagenet_sketch", "split": "test"},
            "rendition": {"kind": "domain", "dataset": "imagenet_r", "split": "test"},
            "adversarial": {"kind": "domain", "dataset": "imagenet_a", "split": "test"},
            "v2": {"kind": "domain", "dataset": "imagenet_v2/matched-frequency", "split": "test"},
            "real": {},
            "stylized": {},  # in each other's styles; by paintings: {"styles": "folder:PATH"}
            "edges": {},
            "texture": {"kind": "domain", "dataset": texture, "split": "validation", "per_class": True},
            "cue_conflict": {"dataset": "geirhos_conflict_stimuli"},
            "categories_edges": {"kind": "categories", "dataset": "folder:data/edges"},
            "categories_silhouettes": {"kind": "categories", "dataset": "folder:data/silhouettes"},
            "few_shot": {},
            "finetune_1%": {"kind": "finetune", "share": 0.01, "epochs": 60},
            **{
                name: {"kind": "transfer", "dataset": name, "train_split": train, "test_split": "test"}
                for name, train in TRANSFER.items()
            },
            "feature_statistics": {},
        },
    }
    return config
