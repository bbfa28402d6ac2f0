"""BYOL with one patch negative on ImageNet in BYOL's own settings (Grill et al. 2020, sections 3.2 and J): 300 epochs,
`:epochs100` and `:epochs1000`; `:baseline` is 300 epochs without negatives. The batch is 4096. The probe is that of
`imagenet_moco_patch.py`, not BYOL's (Nesterov, a cosine over 80 epochs)."""

from ml_collections import ConfigDict

# epochs -> learning rate per 256 images, weight decay, momentum of the target at the start
SCHEDULES = {100: (0.45, 1e-6, 0.99), 300: (0.3, 1e-6, 0.99), 1000: (0.2, 1.5e-6, 0.996)}
VARIANTS = ("epochs100", "epochs1000", "baseline")


def get_config(variant: str | None = None) -> ConfigDict:
    config = ConfigDict()
    config.epochs = int(variant.removeprefix("epochs")) if variant and variant.startswith("epochs") else 300
    rate, decay, momentum = SCHEDULES[config.epochs]
    config.batch = 4096
    config.data = {"name": "imagenet2012", "train_split": "train", "test_split": "validation", "image_size": 224}
    config.augment = {"recipe": "byol"}
    config.model = {"name": "resnet50", "dtype": "bfloat16", "zero_init_residual": True}
    config.method = {"name": "byol", "momentum": momentum}
    config.negatives = {} if variant == "baseline" else {"patch": {}}
    config.optim = {
        "name": "lars",
        "learning_rate": rate,
        "per_256": True,
        "weight_decay": decay,
        "decay_all": False,
        "warmup_epochs": 10,
    }
    probe = {"probe_epochs": 100, "probe_batch": 256, "probe_learning_rate": 30.0, "probe_drops": (0.6, 0.8)}
    config.evaluation = {"probe": "augmented", **probe}
    return config
