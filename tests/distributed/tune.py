"""A search in a process of its own, which may be killed: folder, tuner, replicas, and where."""

from __future__ import annotations

import json
import sys

from keras_resnet.training import make_strategy
from tests.experiment.search.fakes import make_search, results

folder, tuner, replicas, *kill_at = sys.argv[1:]
strategy = make_strategy(virtual_devices=int(replicas)) if int(replicas) > 1 else None
found = make_search(
    folder,
    tuner,
    trials=None if tuner == "hyperband" else 3,
    strategy=strategy,
    kill_at=(kill_at[0], int(kill_at[1])) if kill_at else None,
)
found.search()
print("results", json.dumps(results(found)))
