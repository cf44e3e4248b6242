"""The way from a recipe to its model, which a reader follows frame by frame."""

import traceback
from pathlib import Path

import keras
import pytest

from keras_resnet.experiment import runner
from tests.recipes.running import ROOT, run_here

OURS = (str(ROOT / "keras_resnet"), str(ROOT / "recipes"))


class NotedError(Exception):
    """Ends the run with the frames that lead to the model's call in training."""


class Notes(keras.layers.Layer):
    """Gives its input back, or in training says who called the model."""

    def call(self, inputs, training=False):
        if training:
            raise NotedError(
                [frame for frame in traceback.extract_stack() if frame.filename.startswith(OURS)]
            )
        return inputs


def tiny(experiment, dataset):
    images = keras.Input(dataset.image_shape)
    outputs = keras.layers.Flatten()(Notes()(images))
    return keras.Model(images, keras.layers.Dense(10, "softmax")(outputs))


def test_from_a_recipe_to_the_model_there_are_at_most_eight_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "build_model", tiny)
    keras.config.disable_traceback_filtering()
    try:
        with pytest.raises(NotedError) as noted:
            run_here("digits.py", "--workdir", tmp_path)
    finally:
        keras.config.enable_traceback_filtering()
    (frames,) = noted.value.args
    names = [f"{Path(frame.filename).stem}.{frame.name}" for frame in frames]
    assert names[:5] == [
        "digits.<module>",
        "session.run",
        "train.main",
        "runner.run",
        "trainer.fit",
    ]
    assert len(names) <= 8, names
