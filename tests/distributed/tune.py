"""A search in a process of its own, killed after so many checkpoints: folder, tuner, replicas."""

from __future__ import annotations

import json
import os
import signal
import sys

from keras_resnet.training import Checkpoints, make_strategy
from tests.experiment.search.fakes import dense, results, searched

folder, tuner, replicas, *killed_after = sys.argv[1:]
save, saved = Checkpoints.save, []


def save_and_die(self, step, *args, **options):
    path = save(self, step, *args, **options)
    saved.append(step)
    print(f"saved {step}", flush=True)
    if killed_after and len(saved) == int(killed_after[0]):
        os.kill(os.getpid(), signal.SIGKILL)
    return path


Checkpoints.save = save_and_die
strategy = make_strategy(virtual_devices=int(replicas)) if int(replicas) > 1 else None
found = searched(dense(folder, strategy=strategy), tuner)
print("results", json.dumps(results(found)))
