"""Finding the workers in the environment, errors in it, and the wait for those that are missing."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import socket
import threading
import time
import unittest.mock

import pytest
import tensorflow as tf

from keras_resnet.training import cluster, make_strategy
from keras_resnet.training.stopping import signals_handled
from tests.helpers import refused
from tests.training.fakes import free_addresses, tf_config


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("{", "line 1 column 2"),
        ("[]", "task"),
        ('{"cluster": {"worker": ["a:1"]}}', "task"),
        (tf_config(["a:1", "b:2"], index=2), "'worker' 2"),
        (tf_config(["a:1", "b:2"], index=-1), "'worker' -1"),
        (tf_config(["a:1", "b:2"], kind="chief"), "'chief' 0"),
        (tf_config(["a:1", "b:2"], kind="boss", job="boss"), "'boss' 0"),
        (tf_config(["a:1", "a:1"]), "twice"),
        (tf_config({"0": "a:1", "5": "b:2"}), "numbered"),
    ],
)
def test_a_wrong_tf_config_is_named(config, reason, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    with refused("`TF_CONFIG`", f"TF_CONFIG={config!r}", reason):
        make_strategy("multi_worker")


SLURM = {
    "SLURM_PROCID": "2",
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_NODELIST": "node[01-02]",
    "SLURM_STEP_TASKS_PER_NODE": "2,1",
}


def set_slurm(monkeypatch, **changes: str | None) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name, value in {**SLURM, **changes}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)


def test_slurm_names_the_machines(monkeypatch):
    set_slurm(monkeypatch)
    resolver = cluster.find_cluster()
    hosts = ["node01:10007", "node01:10008", "node02:10007"]
    assert resolver.cluster_spec().as_dict() == {"worker": hosts}
    assert resolver.get_task_info() == ("worker", 2)


@pytest.mark.parametrize("name", [name for name in SLURM if "STEP" in name])
def test_slurm_without_srun(name, monkeypatch):
    set_slurm(monkeypatch, **{name: None})
    with refused("srun", f"no {name}"):
        make_strategy("multi_worker")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLURM_PROCID", "3"),
        ("SLURM_PROCID", "first"),
        ("SLURM_STEP_NUM_TASKS", "4"),
        ("SLURM_STEP_NODELIST", "node[01-"),
        ("SLURM_STEP_TASKS_PER_NODE", "many"),
    ],
)
def test_variables_of_slurm_that_make_no_sense(name, value, monkeypatch):
    set_slurm(monkeypatch, **{name: value})
    with refused("`SLURM_STEP_*`", f"{name}={value!r}"):
        make_strategy("multi_worker")


def resolver_of(addresses: list[str], index: int) -> tf.distribute.cluster_resolver.ClusterResolver:
    spec = tf.train.ClusterSpec({"worker": addresses})
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        spec, task_type="worker", task_id=index
    )


def test_workers_find_each_other():
    addresses = free_addresses(3)
    resolvers = [resolver_of(addresses, index) for index in range(3)]
    all_are_here = threading.Barrier(3)

    def work(index: int) -> None:
        time.sleep(0.3 * index)
        cluster.await_workers(resolvers[index])
        host, port = addresses[index].split(":")
        # As TensorFlow does next.
        with socket.create_server((host, int(port))):
            all_are_here.wait(20)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert list(pool.map(work, range(3))) == [None] * 3


def test_sigterm_ends_the_wait_for_a_worker_that_does_not_come(caplog):
    addresses = free_addresses(2)
    end = unittest.mock.Mock(side_effect=InterruptedError)
    threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with signals_handled(end), pytest.raises(InterruptedError):
        cluster.await_workers(resolver_of(addresses, 0))
    (line,) = caplog.messages
    assert addresses[1] in line and addresses[0] not in line


def test_a_port_that_is_taken():
    (address,) = free_addresses(1)
    _, port = address.split(":")
    resolver = resolver_of([address, "localhost:1"], 0)
    with socket.create_server(("", int(port))), refused("`TF_CONFIG`", "port", repr(address)):
        cluster.await_workers(resolver)


@pytest.mark.parametrize(
    "address", ["localhost", "localhost:http", ":1", "localhost:65536", f"{64 * 'a'}:1"]
)
def test_an_address_without_a_port(address):
    resolver = resolver_of(["localhost:1", address], 1)
    with refused("`TF_CONFIG`", repr(address)):
        cluster.await_workers(resolver)
