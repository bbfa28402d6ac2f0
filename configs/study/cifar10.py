"""CIFAR-10: MoCo-v2, both its losses, with and without negatives, 200 epochs from the device cache; for one GPU.

The kNN of peers at these settings: 85.3 % symmetric, 82.6 % asymmetric (MoCo's CIFAR demo).
"""

KINDS = ("corruptions", "edges", "stylized", "textures", "feature_statistics", "similarity", "classes", "neighbours")
SETS = {kind: {} for kind in KINDS}


def get_config(variant: str | None = None) -> dict:
    del variant
    patch = {"negatives": {"patch": {"alpha": 2.0}}}
    symmetric = {"method.symmetric": True}
    return {
        "title": "MoCo-v2 and negatives on CIFAR-10",
        "base": "configs/cifar10.py",
        "overrides": {
            "data.cache": "device",
            "evaluation.sets": SETS,
        },
        "variants": {
            "baseline": {"label": "asymmetric", "overrides": {"negatives": {}}},
            "patch": {"label": "asymmetric + patch, alpha 2", "overrides": patch},
            "patch_online": {
                "label": "asymmetric + patch, alpha 2, with gradient",
                "overrides": patch | {"method.non_semantic_encoder": "online"},
            },
            "symmetric": {
                "label": "symmetric",
                "overrides": {"negatives": {}} | symmetric,
                "against": "symmetric",
            },
            "symmetric_patch": {
                "label": "symmetric + patch, alpha 2",
                "overrides": patch | symmetric,
                "against": "symmetric",
            },
        },
        "baseline": "baseline",
        "seeds": (0, 1, 2),
    }
