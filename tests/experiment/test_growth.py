"""The report of `deepening`, on runs that were made by hand."""

import json

import pytest
import tensorflow as tf

from keras_resnet.experiment import Experiment, build_model, growth
from keras_resnet.experiment.study import StoppedRun, Study, StudyRun
from keras_resnet.training import TrainingStopped, tensorboard_installed
from keras_resnet.weights.saving import save_model

BASE = Experiment.from_flat(depth=8, epochs=1, batch_size=8, validation_split="test", log_every=1)


@pytest.fixture
def dataset(monkeypatch, noise):
    monkeypatch.setattr(growth, "load_data", lambda settings: noise)
    return noise


def test_report_without_test_images_and_without_the_net_from_scratch(
    tmp_path, dataset, monkeypatch, logged
):
    base = BASE.replace(workdir=str(tmp_path))
    save_model(build_model(base, dataset), tmp_path / "ResNet8-0" / "model.keras")
    shallow = StudyRun(
        "ResNet8",
        0,
        tmp_path / "ResNet8-0",
        {"train_seconds": 1.0, "epochs": 1},
        [{"epoch": 1, "loss": 0.7}],
    )
    study = Study([shallow], [StoppedRun("ResNet14", 0, "it diverged")])
    logger, said = tf.get_logger(), []
    monkeypatch.setattr(logger, "callHandlers", lambda record: said.append(record.getMessage()))

    def attempt_study(*args, **options):
        logger.warning("5 out of the last 5 calls to f triggered tf.function retracing. It ...")
        logger.warning("another warning")
        return study

    monkeypatch.setattr(growth, "attempt_study", attempt_study)
    with pytest.raises(TrainingStopped, match="3 .*1 .*ResNet14, seed 0"):
        growth.deepening(base, 14, [0])

    logger.warning("f triggered tf.function retracing")
    assert said == ["another warning", "f triggered tf.function retracing"]
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [row["network"] for row in rows] == [
        *("ResNet8", "ResNet14, deepened", "ResNet14, deepened and trained on", "ResNet14"),
    ]
    assert rows.pop()["stopped"] == "it diverged"
    for row in rows:
        assert row["split"] == "validation" and 0 <= row["validation_accuracy"] <= 1
    assert rows[1]["validation_loss"] == pytest.approx(rows[0]["validation_loss"], rel=1e-5)
    assert f"validation loss {rows[2]['validation_loss']:.4f}" in logged()
    assert "outputs " in logged() and " off\n" in logged()
    folder = tmp_path / "ResNet14-deepened-0"
    # As every run of `experiment.run` leaves them.
    assert tensorboard_installed() == any(folder.glob("tensorboard/events*"))
    assert "deepened here" in (tmp_path / "deepening.svg").read_text()
    assert "from scratch" not in (tmp_path / "deepening.svg").read_text()
    page = (tmp_path / "report.html").read_text()
    for told in ("Loss by epoch", "it diverged", "ResNet8 deepened to ResNet14 on noise", "keras"):
        assert told in page
