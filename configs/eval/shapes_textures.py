"""What an encoder knows of `shapes_textures`: cue conflict, each cue alone, corruptions, few labels, its features."""

from ml_collections import ConfigDict

VARIANTS = ()


def get_config(variant: str | None = None) -> ConfigDict:
    del variant
    config = ConfigDict()
    config.data = {"name": "shapes_textures", "train_split": "train", "test_split": "test", "image_size": 32}
    config.evaluation = {
        "knn_k": 50,
        "resize": 32,
        "sets": {
            "cue_conflict": {},
            "silhouette": {"kind": "domain", "split": "silhouette"},
            "texture": {"kind": "domain", "split": "texture"},
            "edges": {},
            "stylized": {},
            "corruptions": {},
            "few_shot": {},
            "finetune_10%": {"kind": "finetune", "share": 0.1},
            "feature_statistics": {},
        },
    }
    return config
