"""Negatives on Tiny-ImageNet at 64 px, ResNet-18, from the device cache; for one GPU.

--config.data.name=folder:PATH (train/ and val/, a folder per class); the other test sets are folders too:
--config.evaluation.sets.cue_conflict.dataset=folder:PATH. `:quick` is 20 epochs; `:quilt` asks about seams.
"""

VARIANTS = ("quick", "quilt")
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
        "patch_texture": {
            "label": "patch + texture, alpha 2",
            "overrides": {"negatives": {**patch["negatives"], **texture["negatives"]}},
        },
    }
    if variant == "quilt":
        variants["quilt"] = {"label": "quilt (no seams), alpha 2", "overrides": {"negatives": {"quilt": {}}}}
    return {
        "title": "Negatives on Tiny-ImageNet, 64 px",
        "base": "configs/tiny_imagenet.py",
        "overrides": {
            "epochs": 20 if variant == "quick" else 100,
            "data.cache": "device",
            "evaluation.every_epochs": 20,
            "evaluation.sets": SETS,
        },
        "variants": variants,
        "baseline": "baseline",
        "seeds": (0, 1, 2),
    }
