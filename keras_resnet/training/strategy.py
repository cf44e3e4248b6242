"""One device, several, or several machines: a `tf.distribute` strategy from flags.

TensorFlow only. A process holds one multi-device strategy: TensorFlow aborts when a second one
starts its collectives, so the first one made here is kept and handed out again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator

import tensorflow as tf

from keras_resnet.training.cluster import JOBS, await_workers, find_cluster, from_tf_config
from keras_resnet.training.stopping import TrainingStopped
from keras_resnet.utils import checks, private
from keras_resnet.utils.processes import cores

logger = logging.getLogger(__name__)

NAMES = ("auto", "one", "mirrored", "multi_worker", "tpu")

# Errors of TensorFlow where a worker that takes part in a step is gone.
_PEER_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)

_made: dict[tuple, tf.distribute.Strategy] = {}


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a global batch is divided over the replicas of a strategy.

    Attributes:
        replicas: Replicas over all workers.
        workers: Processes that each read their own part of the data.
        global_batch: Images per step over all replicas.
        replica_batch: Images per step on one replica.
    """

    replicas: int
    workers: int
    global_batch: int
    replica_batch: int

    def __str__(self) -> str:
        return (
            f"{self.replicas} replica(s) on {self.workers} worker(s), "
            f"global batch {self.global_batch}, {self.replica_batch} per replica"
        )


def make_strategy(
    name: str = "auto",
    *,
    gpus: int | None = None,
    virtual_devices: int | None = None,
    tpu: str | None = None,
) -> tf.distribute.Strategy:
    """Makes a strategy by name. To be called before anything else runs on TensorFlow.

    Args:
        name: `"one"` (the first device), `"mirrored"` (several devices of this machine),
            `"multi_worker"` (several machines, from `TF_CONFIG` or SLURM's variables), `"tpu"`, or
            `"auto"`: `multi_worker` when `TF_CONFIG` names several workers, `tpu` when `tpu` is
            given, `mirrored` when several devices are asked for, else `one`.
        gpus: Number of GPUs of this machine to use; None leaves it to `name`.
        virtual_devices: Number of logical CPU devices to make and to train on, so that
            distribution can be tried on any machine.
        tpu: Name or address of the TPU, `"local"` on a TPU VM.

    Returns:
        The strategy. `"one"` is TensorFlow's default strategy, which costs nothing.

    Raises:
        ValueError: An unknown name, flags that exclude each other, more devices than there are,
            flags that come after TensorFlow started, or a second strategy in one process.
    """
    checks.one_of("strategy", name, NAMES)
    for flag, value in (("gpus", gpus), ("virtual_devices", virtual_devices)):
        if value is not None:
            checks.integer(flag, value)
    if gpus and virtual_devices:
        raise ValueError(
            "`gpus` and `virtual_devices` exclude each other. "
            f"Received: gpus={gpus}, virtual_devices={virtual_devices}"
        )
    if name == "auto":
        name = _automatic_name(gpus, virtual_devices, tpu)
    if (virtual_devices or 1) > 1 and name != "mirrored":
        raise ValueError(
            "`virtual_devices` goes with the strategy 'mirrored', or 'auto' on one machine. "
            f"Received: virtual_devices={virtual_devices} with strategy {name!r}"
        )
    if gpus is not None and (name == "tpu" or (name == "one" and gpus > 1)):
        raise ValueError(
            "`gpus` goes with the strategies 'mirrored' and 'multi_worker', and one with 'one'. "
            f"Received: gpus={gpus} with strategy {name!r}"
        )
    key = (name, gpus, virtual_devices, tpu)
    if name != "one" and key not in _made and _made:
        raise ValueError(
            "`strategy` must be the one that this process holds; start a new process for another. "
            f"Received: strategy={name!r} after {next(iter(_made))[0]!r}"
        )
    if virtual_devices:
        _make_virtual_devices(virtual_devices)
    if name == "one":
        _expect_gpus(gpus or 0)
        return tf.distribute.get_strategy()
    if key not in _made:
        _made[key] = _make(*key)
    return _made[key]


def make_deterministic() -> None:
    """Restricts TensorFlow to operations that repeat bit for bit, on any number of cores.

    To be called before anything else runs on TensorFlow: sums are divided among the threads of an
    operation, so it gets one. Where that is too late, a warning says so.
    """
    tf.config.experimental.enable_op_determinism()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
    except RuntimeError:
        logger.warning(
            f"TensorFlow has begun with {operation_threads()} threads an operation; results are "
            "bit for bit those of this number, not those of a new process, which has one"
        )


def operation_threads() -> int:
    """Returns the threads that TensorFlow divides an operation of the CPU among."""
    asked = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    configured = tf.config.threading.get_intra_op_parallelism_threads()
    return configured or (int(asked) if asked.isdecimal() else 0) or cores()


def layout(strategy: tf.distribute.Strategy, global_batch: int, micro_batches: int = 1) -> Layout:
    """Returns how a global batch is divided over a strategy's replicas.

    Args:
        strategy: The strategy.
        global_batch: Images per step over all replicas.
        micro_batches: Parts that a replica's batch is cut into.

    Raises:
        ValueError: The batch cannot be cut into equal parts for replicas and micro-batches.
    """
    replicas = strategy.num_replicas_in_sync
    if global_batch < 1 or global_batch % replicas:
        raise ValueError(
            f"`batch_size` is global and must be a positive multiple of the {replicas} replica(s). "
            f"Received: batch_size={global_batch}"
        )
    workers = private.worker_count(strategy)
    shape = Layout(replicas, workers, global_batch, global_batch // replicas)
    if shape.replica_batch % checks.integer("micro_batches", micro_batches):
        raise ValueError(
            f"`micro_batches` must divide a replica's batch of {shape.replica_batch}. "
            f"Received: micro_batches={micro_batches}"
        )
    return shape


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process is the one that writes files (the only one, or worker 0)."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec() or resolver.task_type is None:
        return True
    first = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return resolver.task_type == first and resolver.task_id == 0


def is_only_worker(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether no other process takes part."""
    return private.worker_count(strategy) == 1


@contextlib.contextmanager
def others_reachable(
    strategy: tf.distribute.Strategy, saved: Callable[[], str] = lambda: "nothing saved is lost"
) -> Iterator[None]:
    """Raises a `TrainingStopped` of one line where another worker is gone.

    With a single worker, errors are unchanged. `saved` returns half a sentence on what was saved.
    """
    try:
        yield
    except _PEER_ERRORS as error:
        if is_only_worker(strategy):
            raise
        raise TrainingStopped(
            f"Another worker ended, or cannot be reached ({type(error).__name__}); {saved()}; "
            "start all of them again to resume"
        ) from error


def any_worker(strategy: tf.distribute.Strategy, flag: bool) -> bool:
    """Returns whether `flag` is true on any worker. All have to ask, at the same step."""
    if is_only_worker(strategy):
        return flag
    votes = strategy.run(lambda: tf.constant(float(flag)))
    return float(strategy.reduce(tf.distribute.ReduceOp.SUM, votes, axis=None)) > 0.0


def workers_agree(strategy: tf.distribute.Strategy, number: int) -> bool:
    """Returns whether all workers have the same number. All have to ask, at the same step."""
    if is_only_worker(strategy):
        return True
    numbers = strategy.run(lambda: tf.constant(float(number), tf.float64))
    mean = float(strategy.reduce(tf.distribute.ReduceOp.MEAN, numbers, axis=None))
    return not any_worker(strategy, mean != number)


def check_scope(name: str, variables: list, strategy: tf.distribute.Strategy) -> None:
    """Raises a ValueError that names `name` if a Keras variable was made outside of the scope."""
    for variable in variables:
        if not strategy.extended.variable_created_in_scope(variable.value):
            raise ValueError(
                f"`{name}` must be made under the scope of the trainer's strategy. "
                f"Received: a {name} whose variable {variable.path!r} was not"
            )


def _automatic_name(gpus: int | None, virtual_devices: int | None, tpu: str | None) -> str:
    spec = from_tf_config().cluster_spec().as_dict() if os.environ.get("TF_CONFIG") else {}
    if sum(len(hosts) for job, hosts in spec.items() if job in JOBS) > 1:
        return "multi_worker"
    if tpu:
        return "tpu"
    return "mirrored" if max(gpus or 1, virtual_devices or 1) > 1 else "one"


def _make(
    name: str, gpus: int | None, virtual_devices: int | None, tpu: str | None
) -> tf.distribute.Strategy:
    if name == "mirrored":
        available = virtual_devices or _expect_gpus(gpus or 1)
        kind = "CPU" if virtual_devices else "GPU"
        return tf.distribute.MirroredStrategy([f"{kind}:{i}" for i in range(gpus or available)])
    if name == "multi_worker":
        return _make_multi_worker(gpus)
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu or "local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except Exception as error:
        # The resolver, the cloud's client and the runtime raise errors of any kind.
        raise ValueError(
            "`tpu` must be the name or address of a TPU that can be reached, or 'local' on a TPU "
            f"VM. Received: tpu={tpu!r} ({checks.first_line(error)})"
        ) from error


def _make_multi_worker(gpus: int | None) -> tf.distribute.Strategy:
    if gpus is not None:
        _expect_gpus(gpus)
    resolver = find_cluster()
    await_workers(resolver)
    try:
        if gpus is not None:
            # A worker takes all that it sees.
            tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[:gpus], "GPU")
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except tf.errors.OpError as error:
        raise ValueError(
            "`TF_CONFIG` or SLURM's variables must name a host and a port for each worker. "
            f"Received: {checks.first_line(error)}"
        ) from error
    except RuntimeError as error:
        raise ValueError(
            "`strategy` 'multi_worker' must be made before TensorFlow runs its first operation. "
            f"Received: {checks.first_line(error)}"
        ) from error


def _expect_gpus(wanted: int) -> int:
    available = len(tf.config.list_physical_devices("GPU"))
    if wanted > available:
        raise ValueError(
            f"`gpus` must be at most the {available} GPU(s) that TensorFlow sees here; "
            f"`virtual_devices` tries distribution on the CPU. Received: gpus={wanted}"
        )
    return available


def _make_virtual_devices(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    configured = tf.config.get_logical_device_configuration(cpu)
    if configured and len(configured) == count:
        return
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
        )
    except RuntimeError as error:
        raise ValueError(
            "`virtual_devices` must be asked for before TensorFlow runs its first operation. "
            f"Received: virtual_devices={count} after TensorFlow started"
        ) from error
