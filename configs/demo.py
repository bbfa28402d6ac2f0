"""The demo: a method with patch negatives on the built-in shapes and textures, minutes on two CPU cores.

Without a variant it is MoCo-v2; `:baseline` is the same without negatives, `:byol` another method, `:byol_baseline`
that one without negatives, and so on; `:texture`, `:texture_dataset` (first: ncl-jax textures
--dataset=shapes_textures) and `:quilt` are MoCo-v2 with those negatives instead.
"""

from ml_collections import ConfigDict

# What differs between methods.
METHODS = {
    "moco": {
        "queue_size": 1024,
        "momentum": 0.99,
        "symmetric": True,
        "head_batch_norm": True,
        "non_semantic_encoder": "online",  # the paper's, target, moves too slowly for a run of minutes
    },
    "simclr": {},
    "moco_v3": {"momentum": 0.98},
    "byol": {"momentum": 0.98},
}
NEGATIVES = ("texture", "texture_dataset", "quilt")
VARIANTS = ("baseline", *NEGATIVES, *[name + end for name in METHODS if name != "moco" for end in ("", "_baseline")])


def get_config(variant: str | None = None) -> ConfigDict:
    negative = variant if variant in NEGATIVES else "patch"
    name, baseline, _ = (variant or "").removeprefix(negative).partition("baseline")
    name = name.removesuffix("_") or "moco"
    config = ConfigDict()
    config.epochs = 30
    config.batch = 128
    config.log_every = 31
    config.data = {
        "name": "shapes_textures",
        "test_split": "test",
        "image_size": 32,
    }
    config.augment = {
        "recipe": "byol" if name == "byol" else "moco_v2",
        "crop_scale": (0.2, 1.0),
        "blur_probability": 0.0,
    }
    config.model = {"name": "resnet10", "width": 0.25, "stem": "medium", "bn_groups": 8 if name == "moco" else 1}
    config.method = {"name": name, "hidden_dim": 256, "embedding_dim": 64, **METHODS[name]}
    config.negatives = {} if baseline else {negative: {}}
    config.optim = {"learning_rate": 0.2, "weight_decay": 5e-4, "warmup_epochs": 1}
    config.evaluation = {
        "every_epochs": 6,
        "knn_k": 50,
        "resize": 32,
        "sets": {
            "cue_conflict": {},
            "silhouette": {"kind": "domain", "split": "silhouette"},
            "texture": {"kind": "domain", "split": "texture"},
        },
    }
    config.checkpoint = {"every_epochs": 6}
    return config
