"""Parts of `shrink`, on tiny networks."""

from keras_resnet.analysis import complexity
from keras_resnet.experiment import Experiment, build_model, growth, shrinking
from keras_resnet.weights.saving import load_model
from tests.helpers import assert_same_weights

BASE = Experiment.from_flat(depth=8, batch_size=8, validation_split="test", log_every=1)


def test_a_slimmed_net_is_trained_settled_and_saved(tmp_path, noise, monkeypatch):
    settled = []
    monkeypatch.setattr(
        growth, "settle_statistics", lambda settings, trainer, dataset: settled.append(trainer.step)
    )
    model = build_model(BASE, noise)
    limit = complexity(model).multiply_adds // 2
    small = shrinking._slimmed(model, limit, BASE, 1, tmp_path, noise)
    assert complexity(small).multiply_adds <= limit
    assert settled == [noise.num_examples("train") // 8]
    assert_same_weights(load_model(tmp_path / "model.keras"), small)
