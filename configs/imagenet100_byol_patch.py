"""BYOL with one patch negative on ImageNet-100: schedule, batch, rate and augmentation of solo-learn (400 epochs, batch
256); `:baseline` without negatives. The paper gives none for its BYOL. LARS is that of BYOL's authors (a trust
coefficient of .001), where solo-learn's clips one of .02; the network is a ResNet-50 with a predictor of 4096, where it
has a ResNet-18 and 8192. So its accuracies do not compare. The probe is the paper's."""

from ml_collections import ConfigDict

VARIANTS = ("baseline",)


def get_config(variant: str | None = None) -> ConfigDict:
    config = ConfigDict()
    config.epochs = 400
    config.batch = 256
    config.data = {"name": "imagenet100", "train_split": "train", "test_split": "validation", "image_size": 224}
    config.augment = {"recipe": "byol"}
    config.model = {"name": "resnet50", "dtype": "bfloat16"}
    config.method = {"name": "byol", "momentum": 0.99}
    config.negatives = {} if variant == "baseline" else {"patch": {}}
    config.optim = {
        "name": "lars",
        "learning_rate": 0.5,
        "per_256": True,
        "weight_decay": 1e-6,
        "decay_all": False,
        "warmup_epochs": 10,
    }
    config.evaluation = {"probe": "augmented"}
    return config
