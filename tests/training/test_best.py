"""The best epochs' weights, averages evaluated beside the weights, and the end of patience."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet.training import Checkpoints, KeepBest, sgd
from tests.helpers import refused
from tests.training.fakes import assert_same_weights, blobs, make_trainer, small_model
from tests.training.test_resume import InterruptionError, StopAt, interrupt


class EveryStep(keras.callbacks.Callback):
    """Notes the weights after each step."""

    def on_train_begin(self, logs=None):
        self.weights = []

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(self.model.get_weights())


def averaging():
    """Half of the steps are worse than those before, so that the best is not the last."""
    optimizer = sgd(0.3, ema=0.6, weight_decay=0.0)
    return make_trainer(model=lambda: small_model(dropout=0.3), optimizer=optimizer)


@pytest.mark.parametrize("monitor", ["val_loss", "ema_val_loss"])
def test_best_weights_are_those_of_the_epoch_with_the_best_figure(monitor):
    trainer, data = averaging(), blobs()
    best, every = KeepBest(monitor, count=2), EveryStep()
    history = trainer.fit(data, 32, epochs=4, callbacks=[best, every]).history
    order = np.argsort(history[monitor], kind="stable")[:2]
    assert best.epochs == [place + 1 for place in order]
    assert best.values == [history[monitor][place] for place in order]
    for place in range(2):
        trainer.model.set_weights(best.weights(place))
        found = trainer.evaluate(data, "validation", 32)["loss"]
        assert found == pytest.approx(best.values[place], rel=1e-6)
    if monitor == "val_loss":
        ours, theirs = best.weights(1), every.weights[4 * best.epochs[1] - 1]
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    with refused("`place`", "place=2"):
        best.weights(2)


def test_averages_of_weights_and_statistics_are_evaluated_beside_them():
    """By hand: after the first step the weights, then 0.6 of before and 0.4 of the new ones."""
    trainer, data, every = averaging(), blobs(), EveryStep()
    history = trainer.fit(data, 32, epochs=2, callbacks=[every]).history
    average = every.weights[0]
    for weights in every.weights[1:]:
        pairs = zip(average, weights, strict=True)
        average = [0.6 * a + 0.4 * w if w.dtype.kind == "f" else w for a, w in pairs]
    # In the end they are the model.
    for ours, theirs in zip(trainer.model.get_weights(), average, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    measured = trainer.evaluate(data, "validation", 32)
    for name, value in measured.items():
        assert history[f"ema_val_{name}"][-1] == pytest.approx(value, rel=1e-6)
    trainer.model.set_weights(every.weights[-1])
    for name, value in trainer.evaluate(data, "validation", 32).items():
        assert history[f"val_{name}"][-1] == pytest.approx(value, rel=1e-6)
    with pytest.raises(KeyError):
        make_trainer().fit(data, 32, epochs=1).history["ema_val_loss"]
    with refused("`optimizer`", "use_ema=False"), make_trainer().averaged():
        pass


@pytest.mark.parametrize("at", [7, 11])
def test_resumed_run_has_the_same_best_weights(tmp_path, at):
    """Whether it was interrupted before or behind the checkpoint of an epoch."""

    def run(*others, **options):
        trainer, best = averaging(), KeepBest("ema_val_loss", count=2)
        trainer.fit(blobs(), 32, epochs=4, callbacks=[best, *others], **options)
        return trainer, best

    whole, expected = run()
    with pytest.raises(InterruptionError):
        run(StopAt(at, interrupt), checkpoints=Checkpoints(tmp_path, every=5))
    again, found = run(checkpoints=Checkpoints(tmp_path, every=5))
    for trainer, best in ((again, found), run(checkpoints=Checkpoints(tmp_path))):
        assert_same_weights(whole, trainer)
        assert (best.epochs, best.values) == (expected.epochs, expected.values)
        pairs = zip(best.best_weights, expected.best_weights, strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)


def test_of_equal_epochs_the_first_is_best():
    best = KeepBest("val_accuracy", count=2)
    best.set_model(small_model())
    best.set_params({})
    best.on_train_begin()
    for epoch, value in enumerate((0.5, 0.7, 0.7, float("nan"), 0.6)):
        best.on_epoch_end(epoch, {"val_accuracy": value})
    best.on_epoch_end(5)
    assert (best.epochs, best.values) == ([2, 3], [0.7, 0.7])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"monitor": "val_top5"}, ("`monitor`", "accuracy, loss, val_accuracy", "'val_top5'")),
        ({"monitor": "ema_val_loss"}, ("`monitor`", "'ema_val_loss'")),
    ],
)
def test_figures_that_are_not_measured_are_refused(options, named):
    with refused(*named):
        make_trainer().fit(blobs(), 32, epochs=1, callbacks=[KeepBest(**options)])
    with refused("`mode`", "mode='up'"):
        KeepBest(mode="up")
    with refused("`count`", "count=0"):
        KeepBest(count=0)
