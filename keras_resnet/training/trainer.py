"""The training loop: any Keras model, on any `tf.distribute` strategy.

TensorFlow only. The loop counts batches. Everything that depends on time (epochs, logging,
validation, checkpoints, the position in the data) follows from that one number, so a run that
starts again from a checkpoint resumes exactly where it was. What a step computes is in `step.py`.

Data are an `ImageDataset`, arrays `(images, labels)`, or a `tf.data.Dataset`. Batches of the first
two are functions of seed and step. A `tf.data.Dataset` resumes by skipping the batches of the steps
before, as `data/streams.py` says: exactly only if it yields the same whenever it is read anew.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import signal
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data.dataset import ImageDataset
from keras_resnet.data.streams import Images
from keras_resnet.training.balance import training_shares
from keras_resnet.training.best import AVERAGED, KeepBest
from keras_resnet.training.checkpoints import Checkpoints
from keras_resnet.training.distillation import Distillation
from keras_resnet.training.inputs import dataset_for, distribute, held_out_for
from keras_resnet.training.optimizers import check_optimizer, last_learning_rate
from keras_resnet.training.precision import DynamicLossScale
from keras_resnet.training.session import Clock, Plan, Session, collect, kept, make_plan, restore
from keras_resnet.training.step import BatchTransform, Step, check_synchronization
from keras_resnet.training.stopping import Terminated, signals_handled
from keras_resnet.training.strategy import (
    any_worker,
    check_scope,
    is_only_worker,
    layout,
    others_reachable,
)
from keras_resnet.utils import checks, private

logger = logging.getLogger(__name__)


class Trainer:
    """Trains and evaluates a Keras model.

    Args:
        model: Built Keras model. It is compiled anew, since callbacks and saved files expect that.
        optimizer: Keras optimizer; its clipping and decay act on the gradient of the global batch.
        loss: Keras loss, its name, or a function of (labels, predictions) to one value an example.
            It is averaged over the global batch; the model's own losses are added once.
        metrics: Keras metrics that read (labels, predictions), made under the strategy's scope.
        strategy: Strategy in whose scope model and optimizer were made; default: the current one.
        steps_per_call: Steps per call of the compiled function; several speed up short steps.
        micro_batches: Parts that a replica's batch is cut into, to save memory. Gradients are
            summed, as of one batch; batch normalization sees the parts.
        auto_micro_batches: Whether to double `micro_batches`, as often as it can be, where the
            first step of `fit` runs out of memory. A run that resumes keeps to what it had.
        loss_scale: Default: a `DynamicLossScale` where the model computes in float16, else none.
        transform: Maps (images, labels, position) to images and labels on the device, where
            `position` is an int64 vector [step, replica]; for instance a `Mixing`.
        class_weights: Weight of each class in training, `(classes,)`. The loss of a batch is then
            the weighted mean, divided by the sum of the weights of its examples, as that of
            PyTorch's `CrossEntropyLoss(weight)`. An example of soft labels has the mean weight of
            its classes. Evaluation does not weight.
        distillation: A teacher whose outputs are learned too; a `Distillation`.
        multi_label: Whether labels are multi-hot, `(batch, classes)`, as loss and metrics expect.
        jit_compile: Whether XLA compiles the forward and backward pass; default: on TPUs only.

    Attributes:
        evaluated_images: Images that the last evaluation counted; bad ones are not among them.

    Raises:
        ValueError: The model, the optimizer or a metric was not made under the strategy's scope,
            an option of the optimizer that belongs to the trainer, or a number below 1.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        loss: keras.losses.Loss | str | Callable,
        metrics: Sequence[keras.metrics.Metric] = (),
        *,
        strategy: tf.distribute.Strategy | None = None,
        steps_per_call: int = 1,
        micro_batches: int = 1,
        auto_micro_batches: bool = False,
        loss_scale: DynamicLossScale | None = None,
        transform: BatchTransform | None = None,
        class_weights: np.ndarray | None = None,
        distillation: Distillation | None = None,
        multi_label: bool = False,
        jit_compile: bool | None = None,
    ):
        self.model = model
        self.optimizer = optimizer
        self.strategy = strategy or tf.distribute.get_strategy()
        self.steps_per_call = checks.integer("steps_per_call", steps_per_call)
        self.auto_micro_batches = auto_micro_batches
        check_scope("model", model.variables, self.strategy)
        check_scope("optimizer", optimizer.variables, self.strategy)
        check_optimizer(optimizer, self.strategy.num_replicas_in_sync)
        for metric in metrics:
            if not isinstance(metric, keras.metrics.Metric):
                raise ValueError(
                    "`metrics` must be objects, such as "
                    f"keras.metrics.SparseCategoricalAccuracy(). Received: {metric!r}"
                )
            check_scope("metrics", metric.variables, self.strategy)
        # TPUs run nothing else.
        on_tpu = isinstance(self.strategy, tf.distribute.TPUStrategy)
        self.jit_compile = on_tpu if jit_compile is None else jit_compile
        if self.strategy.num_replicas_in_sync > 1:
            check_synchronization(model, self.jit_compile)
        layers = private.nested_layers(model)
        if loss_scale is None and any(layer.compute_dtype == "float16" for layer in layers):
            loss_scale = DynamicLossScale()
        with self.strategy.scope():
            model.compile(optimizer=optimizer, loss=loss, auto_scale_loss=False)
        self._step = Step(
            model,
            optimizer,
            loss,
            metrics,
            strategy=self.strategy,
            micro_batches=micro_batches,
            loss_scale=loss_scale,
            transform=transform,
            class_weights=class_weights,
            distillation=distillation,
            multi_label=multi_label,
            jit_compile=self.jit_compile,
        )
        self._session: Session | None = None
        self.evaluated_images = 0

    @property
    def step(self) -> int:
        """Batches trained on so far."""
        return int(self._step.count.numpy())

    @property
    def micro_batches(self) -> int:
        """Parts that a replica's batch is cut into, as memory allows with `auto_micro_batches`."""
        return self._step.micro_batches

    @property
    def seconds(self) -> float:
        """Time that `fit` spent on the way to the present step, before interruptions too."""
        return 0.0 if self._session is None else self._session.seconds

    def fit(
        self,
        dataset: Images,
        batch_size: int,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        steps_per_epoch: int | None = None,
        validation_split: str | None = "validation",
        validation_data: Images | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        checkpoints: Checkpoints | None = None,
        log_every: int = 100,
        seed: int = 0,
        sampling: str | None = None,
    ) -> keras.callbacks.History:
        """Trains up to a number of epochs or steps, counted from the start of the run.

        With `checkpoints`, a run that was ended and starts again with the same arguments resumes
        from the newest one and ends as if never interrupted; on SIGTERM it saves one and exits,
        and on a second one, or before its first step, exits at once.

        Args:
            dataset: An `ImageDataset`; arrays `(images, labels)`, images in [0, 255], which come in
                a new order every epoch; or a `tf.data.Dataset` of pairs (image, label) or batches
                of them, which is regrouped to `batch_size`, keeps its order and is repeated. The
                latter resumes by skipping batches, so that it should yield the same whenever it is
                read anew (`shuffle` with a `seed`, nothing random in Python).
            batch_size: Global batch, over all replicas.
            epochs: Epochs after which to stop; or give `steps`.
            steps: Steps after which to stop.
            steps_per_epoch: Default: as many whole batches as the training split has; an endless
                `tf.data.Dataset` needs it.
            validation_split: Split to evaluate on after each epoch, where the data set has it.
            validation_data: Images to evaluate on after each epoch in place of that split, as for
                `dataset`, finite; each counts once.
            callbacks: Keras callbacks; a method `on_log(step, logs)` is called every `log_every`.
            checkpoints: Where to save the run and to look for its beginning.
            log_every: Steps between two readings of the metrics, which wait for the device.
            seed: Seed of the order and the augmentation of the training data.
            sampling: "balanced" or "sqrt", as in `sampling_shares`, to draw images of rare classes
                more often, and of others less; an epoch has as many images. None for each once.

        Returns:
            Keras's history: the loss, the metrics and their `val_` counterparts by epoch. Where the
            optimizer averages the weights (`use_ema`), the averages are evaluated beside them, and
            give the `ema_val_` counterparts; `SwapEMAWeights` among the callbacks replaces that.

        Raises:
            ValueError: Neither or both of `epochs` and `steps`, a size that does not fit,
                checkpoints of another run, or a callback that resumes from elsewhere.
            Diverged: The loss or a weight is not finite.
            TrainingStopped: A checkpoint could not be written.
            Terminated: SIGTERM came; uncaught, it exits the process with code 143.
            KeyboardInterrupt: Ctrl-C was pressed; with `checkpoints` the state is saved first.
        """
        layout(self.strategy, batch_size, self._step.micro_batches)
        dataset = dataset_for(self.model, dataset, "train")
        held_out = dataset
        if validation_data is not None:
            held_out = held_out_for(self.model, validation_data, validation_split)
        _expect_one_beginning(callbacks, checkpoints)
        plan = make_plan(
            dataset,
            batch_size,
            epochs=epochs,
            steps=steps,
            steps_per_epoch=steps_per_epoch,
            log_every=log_every,
            callbacks=callbacks,
            checkpoints=checkpoints,
        )
        split = validation_split if validation_split in held_out.splits else None
        # The position in the data depends on these.
        settings: dict[str, Any] = {
            "batch_size": batch_size,
            "seed": seed,
            "steps_per_epoch": plan.steps_per_epoch,
        }
        if sampling is not None:
            settings["sampling"] = sampling
        shares = training_shares(sampling, dataset)
        session = self._begun(settings, checkpoints, batch_size)
        self._expect_monitored(callbacks, split)
        first_step = step = self.step
        read = functools.partial(self._train_batches, dataset, batch_size, seed, first_step, shares)
        called = self._callback_list(callbacks, plan, batch_size)
        with self._training(session, called) as received:
            batches = read()
            clock = Clock(batch_size, self._step.input_seconds)
            while step < plan.last_step and not self.model.stop_training:
                epoch, batch = divmod(step, plan.steps_per_epoch)
                if batch == 0 or step == first_step:
                    self._begin_epoch(session, epoch, called, resumed=batch > 0)
                called.on_train_batch_begin(batch)
                count = min(self.steps_per_call, plan.next_stop(step) - step)
                if step == first_step and self.auto_micro_batches:
                    batches = self._train_what_fits(session, batches, count, batch_size, read)
                else:
                    self._train_steps(count)(batches)
                step += count
                session.stepped = True
                if step == first_step + count:
                    # From the first step on, so that callbacks find all names.
                    logs = self._read_metrics(session)
                    clock.start(step)  # The first call traced and compiled.
                logs_are_due = plan.is_due(step, plan.log_every)
                epoch_ends = plan.is_due(step, plan.steps_per_epoch)
                if logs_are_due or epoch_ends:
                    logs = self._log(session, step, clock, called)
                elif any(plan.is_due(step, every) for every in plan.read_every):
                    logs = self._read_metrics(session)
                called.on_train_batch_end(batch + count - 1, logs)
                if self.model.stop_training and not (logs_are_due or epoch_ends):
                    logs = self._log(session, step, clock, called)
                if epoch_ends or self.model.stop_training:
                    results = {}
                    if split is not None:
                        results = self._validate(held_out, split, batch_size, called)
                    called.on_epoch_end(epoch, logs | results)
                    clock.start(step)
                # Workers have to stop at the same step, and asking them all at each costs time.
                terminate = (logs_are_due or is_only_worker(self.strategy)) and any_worker(
                    self.strategy, bool(received)
                )
                if terminate or self.model.stop_training or plan.is_due(step, plan.save_every):
                    session.save(called.callbacks)
                if terminate:
                    break
            # Here, since a signal may have come during the last checkpoint.
            if any_worker(self.strategy, bool(received)):
                if signal.SIGINT in received:
                    raise KeyboardInterrupt
                raise Terminated(f"SIGTERM at step {step}; {session.last_good()}")
        return self.model.history

    def evaluate(
        self,
        dataset: Images,
        split: str,
        batch_size: int,
        callbacks: keras.callbacks.CallbackList | None = None,
        on_batch: Callable[[np.ndarray, np.ndarray, np.ndarray], None] | None = None,
    ) -> dict[str, float]:
        """Evaluates a split; each example counts exactly once.

        Args:
            dataset: The data, as in `fit`.
            split: `"train"`, `"validation"` or `"test"`; arrays and pipelines are either.
            batch_size: As in `fit`.
            callbacks: Keras callbacks whose `on_test_...` methods to call.
            on_batch: Called with labels, outputs and weights of this process's rows of each batch,
                in stored order; the weight is 0 of padding and of images that cannot be read.

        Returns:
            The loss and the metrics by name.

        Raises:
            ValueError: The batch does not divide over the replicas, or no image can be read.
        """
        dataset = dataset_for(self.model, dataset, split)
        callbacks = callbacks or keras.callbacks.CallbackList(model=self.model)
        # An evaluation in the middle of an epoch does not change the metrics of the epoch.
        with kept(self.strategy, {"metrics": self._step.metric_variables}):
            self._step.reset_metrics()
            callbacks.on_test_begin()
            read = functools.partial(dataset.eval_batches, split, batch_size)
            for index, batch in enumerate(distribute(self.strategy, read, batch_size)):
                callbacks.on_test_batch_begin(index)
                outputs = self._step.evaluate(batch)
                if on_batch is not None:
                    on_batch(*map(self._rows, (batch[1], outputs, batch[2])))
                callbacks.on_test_batch_end(index)
            results = self._step.read_metrics()
            self.evaluated_images = round(float(self._step.metrics[0].count.numpy()))
        if not self.evaluated_images:
            raise ValueError(dataset.nothing_readable(split))
        callbacks.on_test_end(results)
        return results

    def _rows(self, values: Any) -> np.ndarray:
        """Returns the rows of all replicas of this process."""
        return np.concatenate(self.strategy.experimental_local_results(values))

    def _train_steps(self, count: int) -> Callable[[Iterator], None]:
        """Returns what trains so many steps on the next batches."""
        # The loop of several steps is slower for one; another count is not traced anew.
        if self.steps_per_call == 1:
            return self._step.train
        return functools.partial(self._step.train_several, steps=tf.constant(count))

    def _train_what_fits(
        self,
        session: Session,
        batches: Iterator,
        count: int,
        batch_size: int,
        read: Callable[[], Iterator],
    ) -> Iterator:
        """Trains the first steps, in smaller micro-batches where memory runs out.

        Returns:
            The batches to continue with: `batches`, or where some of them were lost those of `read`
            behind the first ones.
        """
        before = collect(session.variables())
        while True:
            try:
                self._train_steps(count)(batches)
                return batches
            except tf.errors.ResourceExhaustedError as error:
                parts = 2 * self._step.micro_batches
                replica_batch = layout(self.strategy, batch_size).replica_batch
                # Other workers would wait for this one.
                if replica_batch % parts or not is_only_worker(self.strategy):
                    raise
                logger.info(
                    f"Out of memory ({checks.first_line(error)}): trying again with "
                    f"micro_batches={parts}, of {replica_batch // parts} images"
                )
            with self.strategy.scope():
                restore(session.variables(), before)
            self._step.cut_into(parts)
            batches = read()

    def _validate(
        self,
        dataset: ImageDataset,
        split: str,
        batch_size: int,
        callbacks: keras.callbacks.CallbackList,
    ) -> dict[str, float]:
        """Evaluates the weights, and their averages where there are some, by name of the figure."""
        results = self.evaluate(dataset, split, batch_size, callbacks)
        figures = {f"val_{name}": value for name, value in results.items()}
        if self._evaluates_averages(callbacks.callbacks):
            with self.averaged():
                results = self.evaluate(dataset, split, batch_size)
            figures |= {f"{AVERAGED}val_{name}": value for name, value in results.items()}
        return figures

    def _evaluates_averages(self, callbacks: Sequence[keras.callbacks.Callback]) -> bool:
        # Keras's callback puts them into the model for the one evaluation.
        swap = keras.callbacks.SwapEMAWeights
        return self.optimizer.use_ema and not any(isinstance(one, swap) for one in callbacks)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Has the model hold the averages of its weights and statistics within the block.

        Raises:
            ValueError: The optimizer keeps no averages.
        """
        if not self.optimizer.use_ema:
            raise ValueError(
                "`optimizer` must have use_ema=True to average the weights. Received: use_ema=False"
            )
        with kept(self.strategy, {"model": self.model.variables}):
            self._assign_averages()
            yield

    def _assign_averages(self) -> None:
        with self.strategy.scope():
            for variable, average in self._step.averaged_values():
                variable.assign(average)

    def _expect_monitored(
        self, callbacks: Sequence[keras.callbacks.Callback], split: str | None
    ) -> None:
        """Raises a ValueError if a callback is to keep the best of a figure that there is not."""
        prefixes = [""] if split is None else ["", "val_"]
        if split is not None and self._evaluates_averages(callbacks):
            prefixes.append(f"{AVERAGED}val_")
        names = [prefix + name for name in self._step.read_metrics() for prefix in prefixes]
        for callback in callbacks:
            if isinstance(callback, KeepBest) and callback.monitor not in names:
                known = ", ".join(sorted(names))
                raise ValueError(
                    f"`monitor` must be a figure of every epoch, one of {known}. "
                    f"Received: monitor={callback.monitor!r}"
                )

    def recompute_bn_statistics(
        self, dataset: Images, batch_size: int, *, steps: int | None = None, seed: int = 0
    ) -> None:
        """Sets the moving means and variances to plain averages over training batches.

        Moving averages lag behind the weights, and averaged weights (EMA) have no statistics of
        their own at all. The authors of the paper recomputed them after training, as in section
        3.1 of arXiv 1502.03167. The trainer's `transform` is not applied.

        Args:
            dataset: The data, as in `fit`, read and augmented as in training.
            batch_size: As in `fit`.
            steps: Batches to average over; default: one epoch.
            seed: As in `fit`.

        Raises:
            ValueError: The model has no batch normalization, or a number does not fit.
        """
        dataset = dataset_for(self.model, dataset, "train")
        steps = dataset.steps_per_epoch(batch_size) if steps is None else steps
        checks.integer("steps", steps)
        batches = self._train_batches(dataset, batch_size, seed, 0)
        for count in range(1, steps + 1):
            self._step.average_statistics(next(batches), tf.constant(count))

    def _begun(
        self, settings: dict[str, Any], checkpoints: Checkpoints | None, batch_size: int
    ) -> Session:
        """Returns the session of a run that begins, or resumes from its newest checkpoint."""
        session = self._session = Session(self._step, settings, checkpoints, self.seconds)
        session.restore()
        if self.auto_micro_batches:
            layout(self.strategy, batch_size, session.micro_batches)
            self._step.cut_into(session.micro_batches)
        return session

    def _callback_list(
        self, callbacks: Sequence[keras.callbacks.Callback], plan: Plan, batch_size: int
    ) -> keras.callbacks.CallbackList:
        return keras.callbacks.CallbackList(
            list(callbacks),
            add_history=True,
            model=self.model,
            # Keras's own progress bar, where it is added, stays silent beside ours.
            verbose=0,
            epochs=math.ceil(plan.last_step / plan.steps_per_epoch),
            steps=plan.steps_per_epoch,
            batch_size=batch_size,
            first_step=self.step,
            last_step=plan.last_step,
        )

    def _begin_epoch(
        self,
        session: Session,
        epoch: int,
        callbacks: keras.callbacks.CallbackList,
        *,
        resumed: bool,
    ) -> None:
        """Begins an epoch, or, where a run has resumed in the middle of it, tells callbacks so."""
        if not resumed:
            self._step.reset_metrics()
            callbacks.on_epoch_begin(epoch)
            return
        # What callbacks change in model and optimizer, such as a learning rate that is halved each
        # epoch, they had changed before the checkpoint was written.
        with kept(self.strategy, session.variables()):
            callbacks.on_epoch_begin(epoch)

    @contextlib.contextmanager
    def _training(
        self, session: Session, callbacks: keras.callbacks.CallbackList
    ) -> Iterator[list[int]]:
        """Begins training and ends it, however it ends; yields the signals that came to end it."""
        self.model.stop_training = session.stop_training
        directions = {metric.name: private.direction(metric) for metric in self._step.metrics}
        directions["loss"] = "down"
        for callback in callbacks.callbacks:
            # Keras asks the compiled model whether what is monitored should rise.
            monitor = str(getattr(callback, "monitor", None)).removeprefix(AVERAGED)
            direction = directions.get(monitor.removeprefix("val_"))
            if getattr(callback, "mode", None) == "auto" and direction is not None:
                callback.mode = "max" if direction == "up" else "min"
            if isinstance(callback, KeepBest):
                callback.averaged = self.averaged
        callbacks.on_train_begin()
        session.restore_callbacks(callbacks.callbacks)
        received: list[int] = []

        def note(number: int, frame: FrameType | None) -> None:
            received.append(number)
            # Before the first step, which is slow to trace, there is nothing to save; and a second
            # one waits for nothing.
            if len(received) > 1 or (not session.stepped and is_only_worker(self.strategy)):
                if number == signal.SIGINT:
                    raise KeyboardInterrupt
                raise Terminated(f"SIGTERM; {session.last_good()}")

        active = session.checkpoints is not None
        try:
            with others_reachable(self.strategy, session.last_good):
                # Where Ctrl-C is ignored, as in the background of a shell, that is left so.
                both = (signal.SIGTERM, signal.SIGINT)
                asked = signal.getsignal(signal.SIGINT) is signal.default_int_handler
                with signals_handled(note, active, both if asked else both[:1]):
                    yield received
                # Where the optimizer keeps an average of the weights, it becomes the weights.
                self.optimizer.finalize_variable_values(self.model.trainable_variables)
                if self._evaluates_averages(callbacks.callbacks):
                    self._assign_averages()  # with the statistics that it was evaluated with
                session.expect_finite({"model": self.model.variables})
        finally:
            session.tick()
            callbacks.on_train_end()

    def _train_batches(
        self,
        dataset: ImageDataset,
        batch_size: int,
        seed: int,
        start: int,
        shares: np.ndarray | None = None,
    ):
        """Returns an iterator over the endless training batches from step `start` on."""
        options: dict[str, Any] = {"seed": seed, "start_step": start, "probabilities": shares}
        read = functools.partial(dataset.train_batches, batch_size, **options)
        return iter(distribute(self.strategy, read, batch_size, endless=True))

    def _log(
        self, session: Session, step: int, clock: Clock, callbacks: keras.callbacks.CallbackList
    ) -> dict[str, float]:
        """Reads the metrics and passes them to callbacks that log; returns those for Keras's."""
        logs = self._read_metrics(session)
        # Not for Keras's callbacks, which expect the same names each time.
        speed = clock.read(step)
        for callback in callbacks.callbacks:
            if hasattr(callback, "on_log"):
                callback.on_log(step, logs | speed)
        return logs

    def _read_metrics(self, session: Session) -> dict[str, float]:
        logs = self._step.read_metrics()
        logs["learning_rate"] = last_learning_rate(self.optimizer)
        if not math.isfinite(logs["loss"]):
            raise session.diverged(f"the loss is {logs['loss']}")
        loss_scale = self._step.loss_scale
        if loss_scale is not None and (scale := loss_scale.scale.numpy()) < 1.0:
            raise session.diverged(f"gradients overflow even at a loss scale of {scale:g}")
        return logs


def _expect_one_beginning(
    callbacks: Sequence[keras.callbacks.Callback], checkpoints: Checkpoints | None
) -> None:
    """Raises a ValueError if a callback would load an older state over that of a checkpoint."""
    backup = keras.callbacks.BackupAndRestore
    if checkpoints is not None and any(isinstance(one, backup) for one in callbacks):
        raise ValueError(
            "`callbacks` must have no BackupAndRestore beside `checkpoints`, which do what it "
            "does and more. Received: callbacks with a BackupAndRestore"
        )
