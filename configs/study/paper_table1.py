"""The paper's table on ImageNet-100, its figures beside ours: ResNet-50, 200 epochs, three seeds; for accelerators.

`:ifm` is the same in the settings of implicit feature modification. Textures are made by the paper's algorithm:
ncl-jax textures --dataset=imagenet100 --quality=faithful
Stylized-ImageNet is a folder of `val/WNID/*`: --config.evaluation.sets.stylized.dataset=folder:PATH
"""

VARIANTS = ("ifm",)
PLAIN, PATCH, TEXTURE = (f"configs/imagenet100_moco_{name}.py" for name in ("baseline", "patch", "texture"))
FAITHFUL = "imagenet_texture/imagenet100-faithful"
SETS = {
    "corruptions": {},
    "sketch": {"kind": "domain", "dataset": "imagenet_sketch", "split": "test", "per_class": True},
    "stylized": {"kind": "domain", "dataset": "folder:data/stylized_imagenet", "split": "val"},
    "rendition": {"kind": "domain", "dataset": "imagenet_r", "split": "test", "per_class": True},
    "cue_conflict": {"dataset": "geirhos_conflict_stimuli"},
    "texture": {
        "kind": "domain",
        "dataset": FAITHFUL,
        "split": "validation",
        "per_class": True,
    },
    "edges": {},
    "classes": {},
    "feature_statistics": {},
    "similarity": {},
    "neighbours": {},
}
MEASURES = {
    "linear_top1": "imagenet100",
    "corruptions/mean": "imagenet_c",
    "sketch/top1": "sketch",
    "stylized/top1": "stylized",
    "rendition/masked": "imagenet_r",
}


def get_config(variant: str | None = None) -> dict:
    if variant == "ifm":
        variants = {
            "baseline": {"config": f"{PLAIN}:ifm", "label": "MoCo-v2, queue 65536"},
            "patch": {"config": f"{PATCH}:ifm", "label": "+ patch, alpha 2, queue 65536"},
            "patch_queue16384": {
                "config": f"{PATCH}:ifm",
                "overrides": {"method.queue_size": 16384},
                "label": "+ patch, alpha 2, queue 16384",
            },
        }
        rows = {
            "baseline": "moco_v2 ifm queue 65536",
            "patch": "moco_v2+patch ifm queue 65536 alpha 2",
            "patch_queue16384": "moco_v2+patch ifm queue 16384 alpha 2",
        }
    else:
        variants = {
            "baseline": {"config": PLAIN, "label": "MoCo-v2"},
            "texture": {
                "config": f"{TEXTURE}:texture_dataset",
                "overrides": {"negatives.texture_dataset.names": (FAITHFUL,)},
                "label": "+ texture, alpha 2",
            },
            "patch": {"config": PATCH, "label": "+ patch, alpha 2"},
            "patch_alpha3": {"config": f"{PATCH}:alpha3", "label": "+ patch, alpha 3"},
            "baseline_queue8192": {
                "config": f"{PLAIN}:queue8192",
                "label": "MoCo-v2, queue 8192",
                "against": "baseline_queue8192",
            },
            "patch_queue8192": {
                "config": f"{PATCH}:queue8192",
                "label": "+ patch, alpha 2, queue 8192",
                "against": "baseline_queue8192",
            },
        }
        rows = {
            "baseline": "moco_v2 paper queue 16384",
            "texture": "moco_v2+texture paper queue 16384 alpha 2",
            "patch": "moco_v2+patch paper queue 16384 alpha 2",
            "patch_alpha3": "moco_v2+patch paper queue 16384 alpha 3",
            "baseline_queue8192": "moco_v2 paper queue 8192",
            "patch_queue8192": "moco_v2+patch paper queue 8192 alpha 2",
        }
    return {
        "title": "MoCo-v2 with non-semantic negatives on ImageNet-100",
        "base": PLAIN,
        "overrides": {"evaluation.sets": SETS},
        "variants": variants,
        "baseline": "baseline",
        "seeds": (0, 1, 2),
        "published": {"table": "published_imagenet100.csv", "rows": rows, "measures": MEASURES},
    }
