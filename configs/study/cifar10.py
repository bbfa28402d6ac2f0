"""CIFAR-10: MoCo-v2, both its losses, with and without negatives, 200 epochs from the device cache; for one GPU.

The kNN of peers at these settings: 85.3 % symmetric, 82.6 % asymmetric (MoCo's CIFAR demo). `:cpu` asks in small: a
fifth of the images, the demo's network, two hours of two CPU cores; its accuracies compare with nothing.
"""

VARIANTS = ("cpu",)
KINDS = ("corruptions", "edges", "stylized", "textures", "feature_statistics", "similarity", "classes", "neighbours")
SETS = {kind: {} for kind in KINDS}
PATCH = {"negatives": {"patch": {"alpha": 2.0}}}
ONLINE = {"method.non_semantic_encoder": "online"}
CPU = {
    "epochs": 15,
    "batch": 64,
    "optim.learning_rate": 0.15,
    "method.non_semantic_encoder": "target",
    "data.name": "cifar10",
    "data.train_split": "train[:20%]",
    "data.test_split": "test",
    "evaluation.every_epochs": 5,
    "evaluation.knn_k": 200,
    "evaluation.sets": SETS | {"corruptions": {"severities": (3,)}},
}


def get_config(variant: str | None = None) -> dict:
    small = variant == "cpu"
    start = "" if small else "asymmetric + "
    variants = {
        "baseline": {"label": "no negatives" if small else "asymmetric", "overrides": {"negatives": {}}},
        "patch": {"label": f"{start}patch, alpha 2", "overrides": PATCH},
        "patch_online": {"label": f"{start}patch, alpha 2, with gradient", "overrides": PATCH | ONLINE},
    }
    if small:
        for name, kinds in {"texture": ("texture",), "quilt": ("quilt",), "both": ("patch", "texture")}.items():
            label = f"{' + '.join(kinds)}, alpha 2, with gradient"
            overrides = {"negatives": {kind: {"alpha": 2.0} for kind in kinds}} | ONLINE
            variants[f"{name}_online"] = {"label": label, "overrides": overrides}
    else:
        symmetric = {"method.symmetric": True}
        variants |= {
            "symmetric": {"label": "symmetric", "overrides": {"negatives": {}} | symmetric, "against": "symmetric"},
            "symmetric_patch": {
                "label": "symmetric + patch, alpha 2",
                "overrides": PATCH | symmetric,
                "against": "symmetric",
            },
        }
    return {
        "title": f"MoCo-v2 and negatives on {'a fifth of ' if small else ''}CIFAR-10",
        "base": "configs/demo.py" if small else "configs/cifar10.py",
        "overrides": CPU if small else {"data.cache": "device", "evaluation.sets": SETS},
        "variants": variants,
        "baseline": "baseline",
        "seeds": (0, 1, 2),
    }
