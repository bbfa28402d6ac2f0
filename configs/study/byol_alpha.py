"""How much weight the negatives of BYOL bear before it collapses: alpha on `shapes_textures`; `:shared` with negatives
normalised together with the views; `:cifar10` on a tenth of CIFAR-10, whose images `--config.data.name=folder:PATH`
names (TFDS's `cifar10` by default), with the same small network."""

VARIANTS = ("shared", "cifar10")


def get_config(variant: str | None = None) -> dict:
    alphas = (0.0, 0.03, 0.1, 0.3, 1.0)
    overrides = {
        "epochs": 16,
        "batch": 64,
        "optim.learning_rate": 0.05,
        "evaluation.every_epochs": 8,
        "method.non_semantic_norm": "shared" if variant == "shared" else "own",
    }
    if variant == "cifar10":
        overrides |= {
            "data.name": "cifar10",
            "data.train_split": "train[:10%]",
            "data.test_split": "test",
            "evaluation.knn_k": 200,
            "evaluation.sets": {"feature_statistics": {}, "similarity": {}},
        }
    return {
        "title": f"BYOL's alpha on {'CIFAR-10' if variant == 'cifar10' else 'shapes_textures'}",
        "base": "configs/demo.py:byol",
        "evaluate": "" if variant == "cifar10" else "configs/eval/shapes_textures.py:study",
        "overrides": overrides,
        "variants": {
            f"alpha{alpha:g}": {"label": f"alpha {alpha:g}", "overrides": {"negatives.patch.alpha": alpha}}
            for alpha in alphas
        },
        "baseline": "alpha0",
        "seeds": (0, 1, 2),
        "sweeps": {"alpha": {f"alpha{alpha:g}": alpha for alpha in alphas}},
    }
