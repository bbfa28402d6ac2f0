"""What an encoder knows of `shapes_textures`: cue conflict, each cue alone, corruptions, few labels, its features;
`:study` is the protocol of the studies: one severity of corruption, analyses, and no other training than the probe's.
"""

from ml_collections import ConfigDict

VARIANTS = ("study",)
ANALYSES = ("similarity", "neighbours", "feature_map", "classes")


def get_config(variant: str | None = None) -> ConfigDict:
    config = ConfigDict()
    config.data = {"name": "shapes_textures", "train_split": "train", "test_split": "test", "image_size": 32}
    sets = {
        "cue_conflict": {},
        "silhouette": {"kind": "domain", "split": "silhouette"},
        "texture": {"kind": "domain", "split": "texture"},
        "corruptions": {"severities": (3,)} if variant else {},
        "feature_statistics": {},
    }
    if variant:
        sets |= {kind: {} for kind in ANALYSES}
    else:
        sets |= {"edges": {}, "stylized": {}, "few_shot": {}, "finetune_10%": {"kind": "finetune", "share": 0.1}}
    config.evaluation = {"knn_k": 50, "resize": 32, "sets": sets}
    return config
