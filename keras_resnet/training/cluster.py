"""The workers of a run on several machines: from `TF_CONFIG` or SLURM, and the wait for them.

TensorFlow only.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Sequence

import tensorflow as tf

Resolver = tf.distribute.cluster_resolver.ClusterResolver

JOBS = ("chief", "worker")
_SLURM = ("PROCID", "STEP_NUM_TASKS", "STEP_NODELIST", "STEP_TASKS_PER_NODE")


def find_cluster() -> Resolver:
    """Finds the machines and this worker's place among them in the environment.

    Raises:
        ValueError: There is nothing, or it is not right.
    """
    if os.environ.get("TF_CONFIG"):
        return from_tf_config()
    if "SLURM_PROCID" in os.environ:
        return from_slurm()
    raise ValueError(
        "`strategy` 'multi_worker' must find the machines in TF_CONFIG or in SLURM's variables "
        "(start it with srun, not by sbatch alone). Received: neither"
    )


def from_tf_config() -> Resolver:
    """Reads the variable TF_CONFIG.

    Raises:
        ValueError: It is no JSON, or its task is not in its cluster.
    """
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


def from_slurm() -> Resolver:
    """Takes the tasks of this step of a SLURM job; each trains on all GPUs that it sees.

    Run one task a machine, or have `srun --gpus-per-task` give each its own.

    Raises:
        ValueError: A variable is missing, or they do not fit each other.
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


def await_workers(resolver: Resolver) -> None:
    """Waits until every other worker has come, and says so if it takes a while.

    TensorFlow waits too, but swallows SIGTERM and Ctrl-C meanwhile, and does not say for whom.

    Raises:
        ValueError: This worker's own port is taken.
    """
    own, others = _addresses(resolver)
    if not others:
        return
    # A worker that has seen all goes on and gives up its port, which TensorFlow then listens at;
    # so the last one finds it there.
    with _listening(own):
        started, announced = time.monotonic(), False
        absent = [address for address in others if not _answers(address)]
        while absent:
            if not announced and time.monotonic() - started > 1.0:
                print(f"waiting for the other workers: {', '.join(absent)}", file=sys.stderr)
                announced = True
            time.sleep(0.1)
            absent = [address for address in absent if not _answers(address)]


def _addresses(resolver: Resolver) -> tuple[str, list[str]]:
    jobs: dict[str, Sequence[str]] = resolver.cluster_spec().as_dict()
    own = jobs[resolver.task_type][resolver.task_id]
    return own, [host for job in JOBS for host in jobs.get(job, ()) if host != own]


def _listening(address: str) -> contextlib.AbstractContextManager:
    try:
        port = _host_and_port(address)[1]
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128
            )
        return socket.create_server(("", port), backlog=128)
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
    except UnicodeError:  # Of a length that no name of a machine has.
        encoded = b""
    if not encoded or not port.isdecimal() or int(port) > 65535:
        raise ValueError(
            "`TF_CONFIG` or SLURM's variables must name a host and a port for each worker. "
            f"Received: {address!r}"
        )
    return host.strip("[]"), int(port)
