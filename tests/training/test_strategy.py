"""Strategies, as far as a process without a second one can test them."""

from __future__ import annotations

import unittest.mock

import keras
import pytest
import tensorflow as tf

from keras_resnet.training import Trainer, TrainingStopped, is_chief, layout, make_strategy, sgd
from keras_resnet.training import strategy as strategy_module
from keras_resnet.training.strategy import others_reachable
from tests.helpers import refused
from tests.training.fakes import cross_entropy, small_model, tf_config


def test_one_device_is_the_default():
    assert make_strategy() is make_strategy("one") is tf.distribute.get_strategy()
    assert is_chief(make_strategy())


def test_deterministic_operations_have_one_thread_whatever_the_machine(subprocess_python):
    script = """
import tensorflow as tf
from keras_resnet.training.strategy import make_deterministic, operation_threads
print(operation_threads())
{started}
make_deterministic()
print(operation_threads())
tf.constant(1)
make_deterministic()
"""
    env = {"TF_NUM_INTRAOP_THREADS": "3"}
    found = subprocess_python(script.format(started=""), env=env)
    assert found.stdout.split() == ["3", "1"] and "3 threads" not in found.stderr
    late = subprocess_python(script.format(started="tf.constant(1)"), env=env)
    assert late.stdout.split() == ["3", "3"]
    assert "TensorFlow has begun with 3 threads an operation" in late.stderr


def test_layout():
    here = layout(make_strategy(), 64)
    assert (here.replicas, here.workers, here.replica_batch) == (1, 1, 64)
    assert str(here) == "1 replica(s) on 1 worker(s), global batch 64, 64 per replica"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "horovod"}, ["`strategy`", "strategy='horovod'"]),
        ({"gpus": 0}, ["`gpus`", "gpus=0"]),
        ({"virtual_devices": -1}, ["`virtual_devices`", "virtual_devices=-1"]),
        ({"gpus": 2, "virtual_devices": 2}, ["`gpus`", "gpus=2, virtual_devices=2"]),
        ({"name": "multi_worker"}, ["`strategy`", "TF_CONFIG"]),
        ({"name": "multi_worker", "virtual_devices": 2}, ["`virtual_devices`", "'multi_worker'"]),
        ({"tpu": "local", "gpus": 2}, ["`gpus`", "gpus=2", "'tpu'"]),
        ({"name": "one", "gpus": 2}, ["`gpus`", "gpus=2", "'one'"]),
        ({"name": "one", "virtual_devices": 4}, ["`virtual_devices`", "=4", "'one'"]),
    ],
)
def test_bad_flags(arguments, words, monkeypatch):
    for name in ("TF_CONFIG", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    with refused(*words):
        make_strategy(**arguments)


def test_a_tpu_that_cannot_be_reached(monkeypatch):
    unreachable = unittest.mock.Mock(side_effect=RuntimeError("no route\nto it"))
    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", unreachable)
    with refused("`tpu`", "tpu='far' (no route)"):
        make_strategy("tpu", tpu="far")


@pytest.mark.parametrize("name", ["auto", "one", "mirrored", "multi_worker"])
def test_more_gpus_than_there_are(name):
    available = len(tf.config.list_physical_devices("GPU"))
    with refused("`gpus`", f" {available} ", f"gpus={available + 1}"):
        make_strategy(name, gpus=available + 1)


def test_virtual_devices_come_too_late():
    tf.config.list_logical_devices()
    with refused("`virtual_devices`", "virtual_devices=3"):
        make_strategy(virtual_devices=3)


@pytest.mark.parametrize("batch_size", [0, -8])
def test_batch_must_divide(batch_size):
    with refused("`batch_size`", f"batch_size={batch_size}"):
        layout(make_strategy(), batch_size)


def test_model_of_another_strategy():
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with refused("`model`", "scope"):
        Trainer(small_model(), sgd(0.1), cross_entropy(), strategy=strategy)
    with strategy.scope():
        model = small_model()
    with refused("`optimizer`", "scope"):
        Trainer(model, keras.optimizers.SGD(), cross_entropy(), strategy=strategy)


def test_one_strategy_a_process(monkeypatch):
    made = tf.distribute.get_strategy()
    monkeypatch.setattr(strategy_module, "_made", {("mirrored", None, 2, None): made})
    with refused("`strategy`", "strategy='tpu'", "'mirrored'"):
        make_strategy(tpu="local")


def test_workers_of_tf_config_are_found(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config(["a:1", "b:2"]))
    assert strategy_module._automatic_name(None, None, None) == "multi_worker"
    monkeypatch.setenv("TF_CONFIG", tf_config(["a:1"]))
    assert strategy_module._automatic_name(None, None, None) == "one"
    assert strategy_module._automatic_name(8, None, None) == "mirrored"
    assert strategy_module._automatic_name(None, 2, None) == "mirrored"
    assert strategy_module._automatic_name(None, None, "local") == "tpu"


def test_a_worker_that_is_gone_is_said_in_one_line(monkeypatch):
    error = tf.errors.UnavailableError(None, None, "connection reset\nand much more")
    with pytest.raises(tf.errors.UnavailableError), others_reachable(make_strategy()):
        raise error
    monkeypatch.setattr(strategy_module, "is_only_worker", lambda strategy: False)
    with (
        pytest.raises(TrainingStopped, match=r"\A.*UnavailableError.*\Z"),
        others_reachable(make_strategy()),
    ):
        raise error
