"""How much weight the negatives of BYOL bear before it collapses: alpha on `shapes_textures`."""

VARIANTS = ("shared",)


def get_config(variant: str | None = None) -> dict:
    """`:shared`: negatives normalised together with the views."""
    alphas = (0.0, 0.03, 0.1, 0.3, 1.0)
    return {
        "title": "BYOL's alpha on shapes_textures",
        "base": "configs/demo.py:byol",
        "evaluate": "configs/eval/demo_study.py",
        "overrides": {
            "epochs": 20,
            "evaluation.every_epochs": 10,
            "method.non_semantic_norm": variant or "own",
        },
        "variants": {
            f"alpha{alpha:g}": {"label": f"alpha {alpha:g}", "overrides": {"negatives.patch.alpha": alpha}}
            for alpha in alphas
        },
        "baseline": "alpha0",
        "seeds": (0, 1, 2),
        "sweeps": {"alpha": {f"alpha{alpha:g}": alpha for alpha in alphas}},
    }
