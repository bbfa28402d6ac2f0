"""CIFAR-10: MoCo, both its losses, with and without negatives, 200 epochs from the device cache; for one GPU.

The kNN of peers at these settings: 85.3 % symmetric, 82.6 % asymmetric (MoCo's CIFAR demo). In small, a fifth of the
images, two to four hours of two CPU cores, so that accuracies compare with nothing: `:cpu` asks the same of the
demo's settings, `:heads` which projection head those of `cifar10.py` want, and how strong negatives may be under it.
"""

VARIANTS = ("cpu", "heads")
KINDS = ("corruptions", "edges", "stylized", "textures", "feature_statistics", "similarity", "classes", "neighbours")
SETS = {kind: {} for kind in KINDS}
PATCH, WEAK = ({"negatives": {"patch": {"alpha": alpha}}} for alpha in (2.0, 1.5))
TARGET, ONLINE = ({"method.non_semantic_encoder": name} for name in ("target", "online"))
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
HEADS = {
    "epochs": 15,
    "batch": 128,
    "method.non_semantic_encoder": "target",
    "alpha_warmup_epochs": 0.0,
    "optim.learning_rate": 0.12,  # at this batch the rate of the whole, 0.06
    "data.train_split": "train[:20%]",
    "model": {"name": "resnet10", "width": 0.25, "stem": "medium", "bn_groups": 8},
    "evaluation.every_epochs": 5,
    "evaluation.sets": {"feature_statistics": {}, "similarity": {}},
}


def get_config(variant: str | None = None) -> dict:
    return _heads() if variant == "heads" else _negatives(small=variant == "cpu")


def _heads() -> dict:
    hidden = {"negatives": {}, "method.hidden_dim": 2048}
    return {
        "title": "Heads of MoCo on a fifth of CIFAR-10",
        "base": "configs/cifar10.py",
        "overrides": HEADS,
        "variants": {
            "linear": {"label": "linear head", "overrides": {"negatives": {}}},
            "hidden": {"label": "a hidden layer, as MoCo-v2", "overrides": hidden},
            "hidden_norm": {
                "label": "a hidden layer with batch norm",
                "overrides": hidden | {"method.head_batch_norm": True},
            },
            "patch": {"label": "linear head + patch, alpha 2", "overrides": PATCH},
            "patch_online": {"label": "linear head + patch, alpha 2, with gradient", "overrides": PATCH | ONLINE},
            "weak": {"label": "linear head + patch, alpha 1.5", "overrides": WEAK},
            "weak_online": {"label": "linear head + patch, alpha 1.5, with gradient", "overrides": WEAK | ONLINE},
        },
        "baseline": "linear",
        "seeds": (0, 1, 2),
    }


def _negatives(*, small: bool) -> dict:
    start, alpha, patch = ("", "alpha 2", PATCH) if small else ("asymmetric + ", "alpha 1.5", WEAK)
    variants = {
        "baseline": {"label": "no negatives" if small else "asymmetric", "overrides": {"negatives": {}}},
        "patch": {"label": f"{start}patch, {alpha}", "overrides": patch | TARGET},
        "patch_online": {"label": f"{start}patch, {alpha}, with gradient", "overrides": patch | ONLINE},
    }
    if small:
        for name, kinds in {"texture": ("texture",), "quilt": ("quilt",), "both": ("patch", "texture")}.items():
            label = f"{' + '.join(kinds)}, alpha 2, with gradient"
            overrides = {"negatives": {kind: {"alpha": 2.0} for kind in kinds}} | ONLINE
            variants[f"{name}_online"] = {"label": label, "overrides": overrides}
    else:
        # MoCo's demo adds the two losses that are averaged here, which SGD takes as twice the rate and half the decay.
        symmetric = {"method.symmetric": True, "optim.learning_rate": 0.06, "optim.weight_decay": 2.5e-4}
        variants |= {
            "symmetric": {"label": "symmetric", "overrides": {"negatives": {}} | symmetric, "against": "symmetric"},
            "symmetric_patch": {
                "label": f"symmetric + patch, {alpha}, with gradient",
                "overrides": patch | ONLINE | symmetric,
                "against": "symmetric",
            },
        }
    return {
        "title": f"{'MoCo-v2 and negatives on a fifth of' if small else 'MoCo and negatives on'} CIFAR-10",
        "base": "configs/demo.py" if small else "configs/cifar10.py",
        "overrides": CPU if small else {"data.cache": "device", "evaluation.sets": SETS},
        "variants": variants,
        "baseline": "baseline",
        "seeds": (0, 1, 2),
    }
