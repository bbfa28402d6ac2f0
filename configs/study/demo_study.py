"""Do negatives make an encoder look at shapes? `shapes_textures` on two CPU cores, three seeds, half an hour.

`configs/demo.py` in short: the paper's negatives (patch, texture) as the paper encodes them, without gradient; with
gradient; at alpha 3; both kinds; and patches with fainter seams. `--config.epochs=40` takes four times as long and
learns more. `:simclr` asks the same of SimCLR, which learns more in as many epochs, with gradient (its default).
"""

VARIANTS = ("simclr",)


def get_config(variant: str | None = None) -> dict:
    moco, patch_size = variant is None, (4, 10)  # of a quilt, smaller ones take much longer
    patch = {"negatives": {"patch": {"alpha": 2.0, "patch_size": patch_size}}}
    texture = {"negatives": {"texture": {"alpha": 2.0}}}
    quilt = {"negatives": {"quilt": {"alpha": 2.0, "patch_size": patch_size}}}
    online = {"method.non_semantic_encoder": "online"}
    study = {
        "title": f"Negatives on shapes_textures, {'MoCo-v2' if moco else 'SimCLR'}",
        "about": "Pictures whose class is both a shape and a texture; cue conflict tells which of them it learnt.",
        "base": "configs/demo.py" if moco else "configs/demo.py:simclr",
        "evaluate": "configs/eval/shapes_textures.py:study",
        "overrides": {
            "epochs": 10,
            "batch": 64,  # learns more in as many epochs than the demo's 128
            "optim.learning_rate": 0.15,
            "method.non_semantic_encoder": "target",
            "evaluation.every_epochs": 5,
        },
        "variants": {
            "baseline": {"label": "no negatives", "overrides": {"negatives": {}}},
            "patch": {"label": "patch, alpha 2", "overrides": patch},
            "patch_online": {"label": "patch, alpha 2, with gradient", "overrides": patch | online},
            "patch_alpha3": {"label": "patch, alpha 3", "overrides": patch | {"negatives.patch.alpha": 3.0}},
            "texture": {"label": "texture, alpha 2", "overrides": texture},
            "patch_texture": {
                "label": "patch + texture, alpha 2",
                "overrides": {"negatives": {**patch["negatives"], **texture["negatives"]}},
            },
            "quilt": {"label": "quilt (fainter seams), alpha 2", "overrides": quilt},
        },
        "baseline": "baseline",
        "seeds": (0, 1, 2),
    }
    if not moco:  # it has one encoder
        del study["overrides"]["method.non_semantic_encoder"], study["variants"]["patch_online"]
    return study
