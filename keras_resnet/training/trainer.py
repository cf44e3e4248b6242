"""The training loop: any Keras model, on any `tf.distribute` strategy.

TensorFlow only. The loop counts batches. Everything that depends on time (epochs, logging,
validation, checkpoints, the position in the data) follows from that one number, so a run that
starts again from a checkpoint goes on exactly where it was. What a step computes is in `step.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from keras_resnet.training.precision import DynamicLossScale, needs_loss_scale
from keras_resnet.training.step import BatchTransform, Step
from keras_resnet.training.strategy import layout


class Trainer:
    """Trains and evaluates a Keras model.

    Args:
        model: Built Keras model; need not be compiled.
        optimizer: Keras optimizer. Its clipping and decay work on the gradient of the global
            batch, under every strategy.
        loss: Keras loss, its name, or a function of (labels, predictions) to one value an example.
            It is averaged over the global batch; the model's own losses are added once.
        metrics: Keras metrics that read (labels, predictions).
        strategy: Strategy whose scope the model and the optimizer were made in; default: the
            current one.
        steps_per_call: Steps that one call of the compiled function takes; more than 1 saves the
            way back to Python where steps are short.
        micro_batches: Parts that a replica's batch is cut into to save memory. Gradients are
            summed, so that the result is that of one batch, save that batch normalisation sees
            the parts.
        loss_scale: The loss scale; default: a `DynamicLossScale` where the model computes in
            float16, else none.
        transform: Maps (images, labels, seed) to images and labels on the device, where `seed` is
            an int64 vector [step, replica].
        jit_compile: Whether XLA compiles the forward and backward pass.

    Raises:
        ValueError: The model or the optimizer was not made under the strategy's scope, an option
            of the optimizer that belongs to the trainer, or a number below 1.
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
        loss_scale: DynamicLossScale | None = None,
        transform: BatchTransform | None = None,
        jit_compile: bool = False,
    ):
        _expect_positive(steps_per_call=steps_per_call, micro_batches=micro_batches)
        self.strategy = strategy or tf.distribute.get_strategy()
        _check_scope(model, optimizer, self.strategy)
        _check_optimizer(optimizer)
        if loss_scale is None and needs_loss_scale(model):
            loss_scale = DynamicLossScale()
        self.model = model
        self.optimizer = optimizer
        self.steps_per_call = steps_per_call
        # Callbacks and saved models expect a compiled model. The loss scale is ours.
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
            jit_compile=jit_compile,
        )

    @property
    def step(self) -> int:
        """Batches trained on so far."""
        return int(self._step.count.numpy())

    def fit(
        self,
        dataset,
        batch_size: int,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        steps_per_epoch: int | None = None,
        validation_split: str | None = "validation",
        callbacks: Sequence[keras.callbacks.Callback] = (),
        log_every: int = 100,
        seed: int = 0,
    ) -> keras.callbacks.History:
        """Trains up to a number of epochs or steps, counted from the start of the run.

        Args:
            dataset: An `ImageDataset`: `train_batches`, `eval_batches` and `num_examples`.
            batch_size: Global batch, over all replicas.
            epochs: Epochs after which to stop; or give `steps`.
            steps: Steps after which to stop.
            steps_per_epoch: Default: as many whole batches as the training split has.
            validation_split: Split to evaluate on after each epoch, or None.
            callbacks: Keras callbacks. One that has a method `on_log(step, logs)` is also called
                at each logging interval.
            log_every: Steps between two readings of the metrics, which wait for the device.
            seed: Seed of the order and the augmentation of the training data.

        Returns:
            Keras's history: one value an epoch of the loss, the metrics and their `val_` twins.

        Raises:
            ValueError: Neither or both of `epochs` and `steps`, or a size that does not fit.
        """
        if (epochs is None) == (steps is None):
            raise ValueError(
                f"Give one of `epochs` and `steps`. Received: epochs={epochs}, steps={steps}"
            )
        layout(self.strategy, batch_size)
        steps_per_epoch = steps_per_epoch or dataset.num_examples("train") // batch_size
        total = steps if steps is not None else epochs * steps_per_epoch
        _expect_positive(steps_per_epoch=steps_per_epoch, log_every=log_every, steps=total)
        start = step = self.step
        callbacks = keras.callbacks.CallbackList(
            list(callbacks),
            add_history=True,
            model=self.model,
            epochs=-(-total // steps_per_epoch),
            steps=steps_per_epoch,
            batch_size=batch_size,
            first_step=start,
            last_step=total,
        )
        batches = iter(self._train_batches(dataset, batch_size, seed, start))
        self.model.stop_training = False
        clock = _Clock(batch_size, self._step.input_seconds)
        logs: dict[str, float] = {}
        callbacks.on_train_begin()
        while step < total and not self.model.stop_training:
            epoch, batch = divmod(step, steps_per_epoch)
            if batch == 0:
                _reset(self._step.train_metrics)
            if batch == 0 or step == start:
                callbacks.on_epoch_begin(epoch)
            callbacks.on_train_batch_begin(batch)
            count = min(self.steps_per_call, log_every - step % log_every)
            count = min(count, steps_per_epoch - batch, total - step)
            self._step.train(batches, tf.constant(count))
            step += count
            if step == start + count:
                clock.start(step)  # The first call traces and compiles; it says nothing of speed.
            epoch_ends = step % steps_per_epoch == 0 or step == total
            if step % log_every == 0 or epoch_ends:
                logs = self._read_metrics() | clock.read(step)
                for callback in callbacks.callbacks:
                    if hasattr(callback, "on_log"):
                        callback.on_log(step, logs)
            callbacks.on_train_batch_end(batch + count - 1, logs)
            if epoch_ends:
                epoch_logs = dict(logs)
                if validation_split is not None:
                    results = self.evaluate(dataset, validation_split, batch_size, callbacks)
                    epoch_logs |= {f"val_{name}": value for name, value in results.items()}
                callbacks.on_epoch_end(epoch, epoch_logs)
                clock.start(step)
        if step == total:
            self.optimizer.finalize_variable_values(self.model.trainable_variables)
        callbacks.on_train_end(logs)
        return self.model.history

    def evaluate(
        self,
        dataset,
        split: str,
        batch_size: int,
        callbacks: keras.callbacks.CallbackList | None = None,
    ) -> dict[str, float]:
        """Evaluates a split; each example counts exactly once.

        Args:
            dataset: An `ImageDataset`.
            split: `"train"`, `"validation"` or `"test"`.
            batch_size: Global batch, over all replicas.
            callbacks: Keras callbacks whose `on_test_...` methods to call.

        Returns:
            The loss and the metrics by name.

        Raises:
            ValueError: The batch does not divide over the replicas.
        """
        layout(self.strategy, batch_size)
        callbacks = callbacks or keras.callbacks.CallbackList(model=self.model)
        _reset(self._step.eval_metrics)
        callbacks.on_test_begin()
        for batch, values in enumerate(self._eval_batches(dataset, split, batch_size)):
            callbacks.on_test_batch_begin(batch)
            self._step.evaluate(values)
            callbacks.on_test_batch_end(batch)
        results = {metric.name: float(metric.result()) for metric in self._step.eval_metrics}
        callbacks.on_test_end(results)
        return results

    def _read_metrics(self) -> dict[str, float]:
        values = {metric.name: float(metric.result()) for metric in self._step.train_metrics}
        return values | {"learning_rate": self._last_learning_rate()}

    def _last_learning_rate(self) -> float:
        rate = self.optimizer._learning_rate
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            # The optimizer counts on after its update, so its own rate is that of the next one.
            rate = rate(max(int(self.optimizer.iterations.numpy()) - 1, 0))
        return float(rate)

    def _train_batches(self, dataset, batch_size: int, seed: int, start_step: int):
        def read(shard: tuple[int, int]) -> tf.data.Dataset:
            return dataset.train_batches(batch_size, seed=seed, start_step=start_step, shard=shard)

        return self._distribute(read, batch_size, tf.data.INFINITE_CARDINALITY)

    def _eval_batches(self, dataset, split: str, batch_size: int):
        def read(shard: tuple[int, int]) -> tf.data.Dataset:
            return dataset.eval_batches(split, batch_size, shard=shard)

        return self._distribute(read, batch_size)

    def _distribute(self, read: Callable, batch_size: int, cardinality: int | None = None):
        """Gives each replica its rows of every global batch, in order.

        A worker reads its rows of a global batch at once; they are cut up among its replicas, which
        take the pieces in turn. So every number of workers and replicas sees the same batches.
        """
        replica_batch = layout(self.strategy, batch_size).replica_batch

        def pieces(context: tf.distribute.InputContext) -> tf.data.Dataset:
            batches = read((context.input_pipeline_id, context.num_input_pipelines))
            if context.num_replicas_in_sync > context.num_input_pipelines:
                batches = batches.rebatch(replica_batch, drop_remainder=True)
            if cardinality is not None:
                # Lets TensorFlow leave out what it does for batches that may be missing.
                batches = batches.apply(tf.data.experimental.assert_cardinality(cardinality))
            return batches.prefetch(tf.data.AUTOTUNE)

        return self.strategy.distribute_datasets_from_function(pieces)


class _Clock:
    """Images a second, and the share of the time that went into waiting for them."""

    def __init__(self, batch_size: int, input_seconds: tf.Variable):
        self._batch_size = batch_size
        self._input_seconds = input_seconds

    def start(self, step: int) -> None:
        self._step = step
        self._time = time.perf_counter()
        self._waited = float(self._input_seconds.numpy())

    def read(self, step: int) -> dict[str, float]:
        """Speed since the last reading, or nothing where there was no step since the start."""
        steps = step - self._step
        seconds = time.perf_counter() - self._time
        waited = float(self._input_seconds.numpy()) - self._waited
        self.start(step)
        if steps == 0:
            return {}
        return {
            "images_per_second": steps * self._batch_size / seconds,
            "input_wait": min(waited / seconds, 1.0),
        }


def _reset(metrics: Sequence[keras.metrics.Metric]) -> None:
    for metric in metrics:
        metric.reset_state()


def _expect_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {name}={number}")


def _check_scope(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
) -> None:
    made = (("model", model.variables), ("optimizer", optimizer.variables))
    for name, variables in made:
        foreign = [v.path for v in variables if not _belongs_to(v.value, strategy)]
        if foreign:
            raise ValueError(
                f"`{name}` must be made under the scope of the trainer's strategy. "
                f"Received: a {name} whose variable {foreign[0]!r} was not"
            )


def _belongs_to(variable: tf.Variable, strategy: tf.distribute.Strategy) -> bool:
    if strategy is tf.distribute.get_strategy() and not tf.distribute.has_strategy():
        return not isinstance(variable, tf.distribute.DistributedValues)
    return strategy.extended.variable_created_in_scope(variable)


def _check_optimizer(optimizer: keras.optimizers.Optimizer) -> None:
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "`optimizer` must not scale the loss, the trainer does. "
            "Received: a LossScaleOptimizer; give its inner_optimizer"
        )
    for option, instead in (
        ("gradient_accumulation_steps", "micro_batches"),
        ("loss_scale_factor", "loss_scale"),
    ):
        if getattr(optimizer, option) is not None:
            raise ValueError(
                f"`optimizer` must leave {option} to the trainer's `{instead}`. "
                f"Received: {option}={getattr(optimizer, option)}"
            )
