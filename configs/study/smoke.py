"""A study of seconds, for tests: with and without patch negatives, two seeds."""


def get_config(variant: str | None = None) -> dict:
    del variant
    return {
        "title": "Smoke",
        "base": "configs/smoke.py",
        "overrides": {
            "epochs": 2,
            "evaluation.sets.corruptions": {"names": ("contrast",), "severities": (3,)},
            "evaluation.sets.feature_statistics": {},
            "evaluation.sets.similarity": {},
            "evaluation.sets.neighbours": {"queries": 6},
            "evaluation.sets.feature_map": {},
            "evaluation.sets.classes": {},
        },
        "variants": {
            "baseline": {"label": "MoCo-v2", "overrides": {"negatives": {}}},
            "patch": {"label": "patch, alpha 2"},
            "alpha3": {"label": "patch, alpha 3", "overrides": {"negatives.patch.alpha": 3.0}},
        },
        "seeds": (0, 1),
        "baseline": "baseline",
        "sweeps": {"alpha": {"baseline": 0, "patch": 2, "alpha3": 3}},
    }
