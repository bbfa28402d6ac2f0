"""The protocol of the studies on `shapes_textures`: cue conflict, corruptions of one severity, classes, analyses."""

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
            "corruptions": {"severities": (3,)},
            "feature_statistics": {},
            "similarity": {},
            "neighbours": {},
            "feature_map": {},
            "classes": {},
        },
    }
    return config
