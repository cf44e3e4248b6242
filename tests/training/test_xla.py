"""XLA where nobody says: on for TPUs, off elsewhere."""

from __future__ import annotations

import json

import pytest
import tensorflow as tf

from keras_resnet.training import Checkpoints
from tests.training.fakes import blobs, make_trainer


@pytest.mark.parametrize(("asked", "used"), [(None, False), (False, False), (True, True)])
def test_it_is_off_where_it_is_not_asked_for(asked, used):
    assert make_trainer(jit_compile=asked).jit_compile is used


def test_it_is_on_for_tpus(monkeypatch):
    monkeypatch.setattr(tf.distribute, "TPUStrategy", type(tf.distribute.get_strategy()))
    assert make_trainer().jit_compile is True


def test_checkpoints_know_nothing_of_it(tmp_path):
    for asked, steps in ((True, 1), (None, 2)):
        trainer = make_trainer(jit_compile=asked)
        trainer.fit(blobs(), 32, steps=steps, checkpoints=Checkpoints(tmp_path))
    assert trainer.step == 2
    assert "jit" not in json.dumps(Checkpoints(tmp_path).newest({}).details)
