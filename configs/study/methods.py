"""Every method on `shapes_textures`, with and without patch negatives; BYOL and MoCo-v3 want more epochs than these."""

NAMES = {"moco": "MoCo-v2", "simclr": "SimCLR", "moco_v3": "MoCo-v3", "byol": "BYOL"}


def get_config(variant: str | None = None) -> dict:
    del variant
    variants = {}
    for name, label in NAMES.items():
        plain = "baseline" if name == "moco" else f"{name}_baseline"
        variants[plain] = {"config": f":{plain}", "label": label, "against": plain}
        variants[f"{name}_patch"] = {
            "config": "" if name == "moco" else f":{name}",
            "label": f"{label} + patch",
            "against": plain,
        }
    return {
        "title": "Methods with and without patch negatives, on shapes_textures",
        "base": "configs/demo.py",
        "evaluate": "configs/eval/shapes_textures.py:study",
        "overrides": {"epochs": 12, "batch": 64, "optim.learning_rate": 0.15, "evaluation.every_epochs": 6},
        "variants": variants,
        "baseline": "baseline",
        "seeds": (0, 1, 2),
    }
