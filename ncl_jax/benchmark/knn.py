"""Milliseconds per query of the kNN evaluation, with the features on the host before and the votes there after."""

from functools import partial

import jax
import numpy as np

from ncl_jax.benchmark import timing
from ncl_jax.benchmark.result import Options, Result, spread
from ncl_jax.evaluation import knn

CLASSES, K = 100, 200
# name -> labelled features, their width, queries
SIZES = {"CIFAR-10, ResNet-18": (50_000, 512, 1_000)}
LARGE = {"ImageNet-100, ResNet-50": (126_689, 2_048, 5_000)}  # minutes on a CPU


def run(options: Options) -> Result:
    rows, samples = [], {}
    sizes = SIZES if jax.default_backend() == "cpu" else SIZES | LARGE
    for name, (count, width, queries) in sizes.items():
        rng = np.random.default_rng(0)
        bank, asked = (rng.standard_normal((n, width), np.float32) for n in (count, queries))
        labels = rng.integers(0, CLASSES, count)
        predict = partial(knn.predict, bank, labels, asked, num_classes=CLASSES, k=K)
        measured = timing.measure_one(predict, seconds=options.seconds)
        each = measured.scaled(1e3 / queries)
        rows.append(
            {
                "size": name,
                "labelled": count,
                "width": width,
                "queries": queries,
                "ms per query": each.median,
                "quartiles": spread(each),
                "whole (s)": measured.median,
            }
        )
        samples[name] = measured.samples
    return Result({"": rows}, [f"k = {K}, {CLASSES} classes"], samples)
