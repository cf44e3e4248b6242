"""Augmentations by name that are options of the crops of image files."""

from __future__ import annotations

import pytest

from keras_resnet.experiment import Data, factories


@pytest.mark.parametrize(
    ("name", "crop", "lighting"), [("paper", "scale", 0.1), ("inception", "inception", 0.0)]
)
def test_crops_by_name_are_options_of_the_data_set(monkeypatch, name, crop, lighting):
    monkeypatch.setattr(factories, "load_dataset", lambda *names, **options: options)
    options = factories.load_data(Data("folder", "photographs", augment=name))
    assert options["crop"] == crop and options["lighting"] == lighting
