"""The workers of a run on several machines: from `TF_CONFIG` or SLURM, and the wait for them.

TensorFlow only.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import time
from collections.abc import Sequence

import tensorflow as tf

_LOGGER = logging.getLogger(__name__)

JOBS = ("chief", "worker")
_SLURM = ("PROCID", "STEP_NUM_TASKS", "STEP_NODELIST", "STEP_TASKS_PER_NODE")


def find_cluster() -> tf.distribute.cluster_resolver.ClusterResolver:
    """Finds the machines, and this worker's place among them, in the environment."""
    if os.environ.get("TF_CONFIG"):
        return from_tf_config()
    if "SLURM_PROCID" in os.environ:
        return from_slurm()
    raise ValueError(
        "`strategy` 'multi_worker' must find the machines in TF_CONFIG or in SLURM's variables "
        "(start it with srun, not by sbatch alone). Received: neither"
    )


def from_tf_config() -> tf.distribute.cluster_resolver.ClusterResolver:
    """Reads the variable TF_CONFIG."""
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    try:
        jobs = resolver.cluster_spec().as_dict()
        hosts = [host for job in jobs for host in jobs[job]]
        if any(isinstance(host, int) for host in hosts):
            raise ValueError("its machines are not numbered from 0 on")
        if len(set(hosts)) < len(hosts):
            raise ValueError("its cluster has the same address twice")
        if resolver.task_type is None or resolver.task_id is None:
            raise ValueError("it names no task")
        tasks = jobs.get(resolver.task_type, ()) if resolver.task_type in JOBS else ()
        if not 0 <= resolver.task_id < len(tasks):
            raise ValueError(
                f"its cluster has no chief or worker {resolver.task_type!r} {resolver.task_id}"
            )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(
            "`TF_CONFIG` must be JSON with a cluster and a task of it. "
            f"Received: TF_CONFIG={os.environ['TF_CONFIG']!r} ({error})"
        ) from error
    return resolver


def from_slurm() -> tf.distribute.cluster_resolver.ClusterResolver:
    """Reads the tasks of this step of a SLURM job; each trains on all GPUs that it sees.

    Run one task a machine, or have `srun --gpus-per-task` give each its own.
    """
    missing = [f"SLURM_{name}" for name in _SLURM if f"SLURM_{name}" not in os.environ]
    if missing:
        raise ValueError(
            "`SLURM_STEP_*` must be variables of a step; start it with srun, not by sbatch alone. "
            f"Received: no {', '.join(missing)}"
        )
    try:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            # Jobs may share a machine, but not a port.
            port_base=10_000 + int(os.environ.get("SLURM_JOB_ID", 0)) % 20_000,
            # As many as tasks, whatever there are: otherwise it runs nvidia-smi, and fails where
            # that is missing or SLURM has given out the GPUs already.
            gpus_per_node=int(os.environ["SLURM_STEP_NUM_TASKS"]),
            gpus_per_task=1,
            auto_set_gpu=False,
        )
        resolver.cluster_spec()  # Finds the task's place, too.
        if resolver.task_id is None:
            raise ValueError("the task is not among them")
    except (ValueError, RuntimeError) as error:
        values = ", ".join(f"SLURM_{name}={os.environ[f'SLURM_{name}']!r}" for name in _SLURM)
        raise ValueError(
            f"`SLURM_STEP_*` must be the variables of a step. Received: {values} ({error})"
        ) from error
    return resolver


def await_workers(resolver: tf.distribute.cluster_resolver.ClusterResolver) -> None:
    """Waits until every other worker is there, and logs for whom if it takes a while.

    TensorFlow waits too, but ignores SIGTERM and Ctrl-C meanwhile, and does not say for whom.
    """
    jobs: dict[str, Sequence[str]] = resolver.cluster_spec().as_dict()
    own = jobs[resolver.task_type][resolver.task_id]
    others = [host for job in JOBS for host in jobs.get(job, ()) if host != own]
    if not others:
        return
    # A worker that has seen all others closes its port, and TensorFlow listens there for the last.
    with _listening(own):
        announce = time.monotonic() + 1.0
        while absent := [address for address in others if not _answers(address)]:
            if time.monotonic() > announce:
                _LOGGER.warning("Waiting for the other workers: %s", ", ".join(absent))
                announce = math.inf
            time.sleep(0.1)


def _listening(address: str) -> contextlib.AbstractContextManager:
    try:
        port = _host_and_port(address)[1]
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        return socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=128)
    except OSError as error:
        raise ValueError(
            "`TF_CONFIG` or SLURM's variables must name a free port of this worker's machine. "
            f"Received: {address!r} ({error.strerror})"
        ) from error


def _answers(address: str) -> bool:
    try:
        socket.create_connection(_host_and_port(address), timeout=1.0).close()
    except OSError:
        return False  # Not yet.
    return True


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    try:
        encoded = host.encode("idna")
    except UnicodeError:  # Too long, or an empty part.
        encoded = b""
    if not encoded or not port.isdecimal() or int(port) > 65535:
        raise ValueError(
            "`TF_CONFIG` or SLURM's variables must name a host and a port for each worker. "
            f"Received: {address!r}"
        )
    return host.strip("[]"), int(port)
