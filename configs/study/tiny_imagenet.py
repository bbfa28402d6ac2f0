"""Negatives on Tiny-ImageNet at 64 px, ResNet-18, from the device cache; for one GPU.

--config.data.name=folder:PATH (train/ and val/, a folder per class); the other test sets are folders too:
--config.evaluation.sets.cue_conflict.dataset=folder:PATH. `:quick` is 20 epochs; `:quilt` asks about seams. `:cpu`
asks in small: a fifth of the images, the demo's network, half an hour to an hour of a CPU core for each run; its
accuracies compare with nothing.
"""

VARIANTS = ("quick", "quilt", "cpu")
SETS = {
    "corruptions": {},
    "edges": {},
    "stylized": {},
    "textures": {},
    "cue_conflict": {"dataset": "folder:data/cue_conflict", "split": "shape"},
    "feature_statistics": {},
    "similarity": {},
    "classes": {},
    "neighbours": {},
}
# On CPU cores, instead of what is for one GPU.
CPU = {
    "epochs": 12,
    "batch": 64,
    "optim.learning_rate": 0.15,
    "method.non_semantic_encoder": "target",
    "data.name": "folder:data/tiny_imagenet",
    "data.train_split": "train[:20%]",
    "data.test_split": "val",
    "data.image_size": 64,
    "evaluation.every_epochs": 4,
    "evaluation.knn_k": 200,
    "evaluation.resize": 64,
    "evaluation.sets": SETS | {"corruptions": {"severities": (3,)}},
}


def get_config(variant: str | None = None) -> dict:
    patch, texture = {"negatives": {"patch": {"alpha": 2.0}}}, {"negatives": {"texture": {"alpha": 2.0}}}
    variants = {
        "baseline": {"label": "no negatives", "overrides": {"negatives": {}}},
        "patch": {"label": "patch, alpha 2", "overrides": patch},
        "patch_online": {
            "label": "patch, alpha 2, with gradient",
            "overrides": patch | {"method.non_semantic_encoder": "online"},
        },
        "patch_alpha3": {"label": "patch, alpha 3", "overrides": patch | {"negatives.patch.alpha": 3.0}},
        "texture": {"label": "texture, alpha 2", "overrides": texture},
        "texture_online": {
            "label": "texture, alpha 2, with gradient",
            "overrides": texture | {"method.non_semantic_encoder": "online"},
        },
        "patch_texture": {
            "label": "patch + texture, alpha 2",
            "overrides": {"negatives": {**patch["negatives"], **texture["negatives"]}},
        },
    }
    quilt = {"label": "quilt (fainter seams), alpha 2", "overrides": {"negatives": {"quilt": {"alpha": 2.0}}}}
    if variant == "quilt":
        variants["quilt"] = quilt
    if variant == "cpu":
        variants["quilt_online"] = {
            "label": f"{quilt['label']}, with gradient",
            "overrides": quilt["overrides"] | {"method.non_semantic_encoder": "online"},
        }
    gpu = {
        "epochs": 20 if variant == "quick" else 100,
        "data.cache": "device",
        "evaluation.every_epochs": 20,
        "evaluation.sets": SETS,
    }
    small = variant == "cpu"
    return {
        "title": f"Negatives on {'a fifth of ' if small else ''}Tiny-ImageNet, 64 px",
        "base": "configs/demo.py" if small else "configs/tiny_imagenet.py",
        "overrides": CPU if small else gpu,
        "variants": variants,
        "baseline": "baseline",
        "seeds": (0, 1, 2),
    }
