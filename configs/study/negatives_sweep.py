"""What governs the effect of negatives on `shapes_textures`: one setting at a time around `patch`, three seeds each.

Settings that change the plain method too (queue, capacity, augmentation, seams, epochs) come in pairs, with and without
negatives, and the pair is compared. All together take hours on two cores: `--only=` takes variants by name, and
`:alpha`, `:patch_size`, `:num`, `:encoder`, `:warmup`, `:queue`, `:capacity`, `:augmentation`, `:seams`, `:epochs` an
axis each; in one workdir, axes share the runs that they have in common.
"""

PATCH = {"negatives": {"patch": {"alpha": 2.0, "patch_size": (4, 10)}}}
PLAIN = {"negatives": {}}
ONLINE = {"method.non_semantic_encoder": "online"}


def of_negatives(key: str, values: dict, more: dict | None = None) -> dict:
    """name -> (value on the axis, overrides, what it is compared with); the value of `patch` has no name of its own."""
    return {
        name: (value, {} if name == "patch" else {**PATCH, key: value, **(more or {})}, "baseline")
        for name, value in values.items()
    }


def of_all(name: str, key: str, values: tuple, default: float, more: dict | None = None) -> dict:
    """The same, of a setting that the plain method has as well; `more` goes with the values beside the default."""
    found = {}
    for value in values:
        plain, patch = (f"{name}{value:g}_baseline", f"{name}{value:g}") if value != default else ("baseline", "patch")
        changed = {key: value} | (more or {} if value != default else {})
        found[plain] = (None, {**PLAIN, **changed}, plain)
        found[patch] = (value, {**PATCH, **changed}, plain)
    return found


NORMS, SHUFFLED = ({"method.non_semantic_norm": norm} for norm in ("shared", "shuffled"))
PATCHES = {"patch2to4": (2, 4), "patch": (4, 10), "patch10to16": (10, 16), "patch16to24": (16, 24)}
ENCODERS = {
    "patch": ("target, own", {}, "baseline"),
    "shared": ("target, shared", NORMS, "baseline"),
    "shuffled": ("target, own but shuffled", SHUFFLED, "patch"),
    "online": ("online, own", ONLINE, "baseline"),
    "online_shuffled": ("online, own but shuffled", SHUFFLED | ONLINE, "online"),
    "online_shared": ("online, shared", NORMS | ONLINE, "baseline"),
}
AXES = {
    "alpha": {
        "alpha": {
            "baseline": (0, {}, "baseline"),
            **of_negatives("negatives.patch.alpha", {"alpha1": 1.0, "patch": 2.0, "alpha3": 3.0, "alpha4": 4.0}),
        },
        "alpha, with gradient": {
            "baseline": (0, {}, "baseline"),
            **of_negatives(
                "negatives.patch.alpha", {"alpha1_online": 1.0, "online": 2.0, "alpha3_online": 3.0}, ONLINE
            ),
        },
    },
    "patch_size": {
        "mean patch side (px)": {
            name: (sum(sides) / 2, {**PATCH, "negatives.patch.patch_size": sides}, "baseline")
            for name, sides in PATCHES.items()
        }
    },
    "num": {"negatives per query": of_negatives("negatives.patch.num", {"patch": 1, "num2": 2, "num4": 4})},
    "encoder": {
        "the negatives' encoder and batch norm": {
            name: (value, {**PATCH, **overrides}, against) for name, (value, overrides, against) in ENCODERS.items()
        }
    },
    "warmup": {
        "epochs over which alpha rises": of_negatives(
            "alpha_warmup_epochs", {"patch": 0.0, "warmup2": 2.0, "warmup6": 6.0}
        )
    },
    "queue": {"queue size": of_all("queue", "method.queue_size", (256, 1024, 4096), 1024)},
    "capacity": {"width of the ResNet": of_all("width", "model.width", (0.125, 0.25, 0.5), 0.25)},
    "augmentation": {"strength of the colour jitter": of_all("jitter", "augment.jitter_strength", (0.0, 0.5, 1.0), 1)},
    "seams": {
        "seams of both views: shift (px)": of_all(
            "seams", "augment.seam_shift", (0, 1, 2), 0, {"augment.seam_patch_size": (4, 10)}
        )
    },
    "epochs": {"epochs": of_all("epochs", "epochs", (4, 12, 36), 12)},
}
VARIANTS = tuple(AXES)


def get_config(variant: str | None = None) -> dict:
    variants = {
        "baseline": {"label": "no negatives", "overrides": PLAIN},
        "patch": {"label": "patch, alpha 2", "overrides": PATCH},
    }
    sweeps = {}
    for axis in [variant] if variant else AXES:
        for title, points in AXES[axis].items():
            sweeps[title] = {name: value for name, (value, _, _) in points.items() if value is not None}
            of = {against: value for value, _, against in points.values() if value is not None}  # of the plain ones
            for name, (value, overrides, against) in points.items():
                shown = of[name] if value is None else value
                label = f"{title}: {shown if isinstance(shown, str) else f'{shown:g}'}"
                label += ", no negatives" if value is None else ""
                variants.setdefault(name, {"label": label, "overrides": overrides, "against": against})
    return {
        "title": f"What governs the effect of negatives: {variant or 'all axes'}",
        "base": "configs/demo.py",
        "evaluate": "configs/eval/shapes_textures.py:study",
        "overrides": {
            "epochs": 12,
            "batch": 64,  # learns more in as many epochs than the demo's 128
            "optim.learning_rate": 0.15,
            "method.non_semantic_encoder": "target",
            "evaluation.every_epochs": 4,
        },
        "variants": variants,
        "baseline": "baseline",
        "seeds": (0, 1, 2),
        "sweeps": sweeps,
    }
