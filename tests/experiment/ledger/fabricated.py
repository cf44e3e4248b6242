"""Records of runs that never were, with known figures."""

import numpy as np

from keras_resnet.experiment.ledger.budgets import BUDGETS
from keras_resnet.experiment.ledger.records import Record, identity, own_settings, pack

VERSIONS = {"keras_resnet": "1", "keras": "3", "tensorflow": "2"}
IMAGES = 100


def record(cell, seed, wrong, budget="digits", **others):
    """Returns a record of which the first `wrong` of 100 test images are wrong."""
    own = {"versions": VERSIONS, "machine": "m", "data": "d", **others}
    settings = own.pop("settings", own_settings(BUDGETS[budget].experiment(cell, seed)))
    known = {
        "hash": identity(settings, own["versions"]),
        "settings": settings,
        "images": IMAGES,
        "wrong": wrong,
        "train_error": wrong / IMAGES,
        "seconds": 10.0,
        "multiply_adds": 10**9,
        "correct": pack(np.arange(IMAGES) >= wrong),
        "curve": [[9, 0.5, 0.6], [18, wrong / IMAGES, 0.1]],
        "responses": [0.5, wrong / IMAGES],
    }
    return Record(cell=cell, budget=budget, seed=seed, **{**known, **own})


def records(budget="digits", **wrong):
    """Returns records of networks by name, a seed for each number of wrong images."""
    return [
        record(cell, seed, count, budget)
        for cell, counts in wrong.items()
        for seed, count in enumerate(counts)
    ]
