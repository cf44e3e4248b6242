"""The computation of one training step and one evaluation step, on every replica.

TensorFlow only. The forward and backward pass is a pure function: it runs the model in a
`keras.StatelessScope` on tensors and returns gradients and new statistics, and nothing is assigned
before the whole batch is known to be good. So a step that overflows leaves no trace in the moving
averages, micro-batches pass their statistics on without assigning a variable, and XLA may compile
the pass under any strategy. Only the statistics of a SavedModel (`HubLayer`) move by themselves.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.layers import BlockStack
from keras_resnet.training.distillation import Distillation
from keras_resnet.training.precision import DynamicLossScale
from keras_resnet.utils import checks, private

BatchTransform = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

# Keras's seeds stay below 1e9, so the replicas' seeds, this far apart, never meet.
_REPLICA_SEED_STRIDE = 10**9


class Outcome(NamedTuple):
    """Result of one replica for the update: the first four reduced over all, the others its own."""

    gradients: list[tf.Tensor]
    statistics: list[tf.Tensor]
    error: tf.Tensor
    finite: tf.Tensor
    seeds: list[tf.Tensor]
    loss: tf.Tensor
    labels: tf.Tensor
    predictions: tf.Tensor


class Step:
    """The compiled training step and evaluation step of a model under a strategy.

    The arguments are those of `Trainer`, which has checked them. `count` is the number of batches
    trained on, and so the position in the data; `input_seconds` the wait for them, if known.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        loss: keras.losses.Loss | str | Callable,
        metrics: Sequence[keras.metrics.Metric],
        *,
        strategy: tf.distribute.Strategy,
        micro_batches: int,
        loss_scale: DynamicLossScale | None,
        transform: BatchTransform | None,
        class_weights: np.ndarray | None,
        distillation: Distillation | None,
        multi_label: bool,
        jit_compile: bool,
    ):
        self.model = model
        self.optimizer = optimizer
        self.strategy = strategy
        # A TPU compiles no tensors whose length depends on their values.
        self.cuts_padding = not isinstance(strategy, tf.distribute.TPUStrategy)
        self.micro_batches = micro_batches
        self.loss_scale = loss_scale
        self.transform = transform
        self.class_weights = class_weights
        self.distillation = distillation
        self.example_losses = _without_reduction(loss)
        self.count = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        # TensorFlow has no clock in its deterministic mode.
        self.input_seconds = None
        if not private.is_op_determinism_enabled():
            self.input_seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        with strategy.scope():
            optimizer.build(model.trainable_variables)
            self.metrics = [keras.metrics.Mean("loss"), *metrics]
            # Some, such as F1Score, make their variables at their first update. Within a replica,
            # or after a checkpoint was read, it would be too late.
            labels = keras.KerasTensor((None,), "int32")
            predictions = keras.KerasTensor(model.output_shape, "float32")
            labels = predictions if multi_label else labels
            for metric in self.metrics:
                if not metric.variables:
                    private.compute_output_spec(metric.update_state, labels, predictions)
        # Shows who draws from Keras's global generator, which no checkpoint holds.
        self._decoy = keras.random.SeedGenerator(0)
        self._observe_error = getattr(private.schedule_of(optimizer), "observe", None)
        frozen = model.non_trainable_variables
        self._seeds = [v for v in frozen if v.name == "seed_generator_state"]
        self._statistics = [v for v in frozen if v.name != "seed_generator_state"]
        self._changing: list[int] = []
        # The statistics that belong to the optimizer's average of the weights, averaged alike.
        self.averages: list[keras.Variable] = []
        if optimizer.use_ema:
            with strategy.scope():
                self.averages = [
                    keras.Variable(
                        tf.zeros(one.shape, one.dtype),
                        trainable=False,
                        dtype=one.dtype,
                        aggregation="only_first_replica",
                    )
                    for one in self._statistics
                ]
        self._jit_compile = jit_compile
        self._compile()

    def _compile(self) -> None:
        self._pass = self._forward_backward
        if self._jit_compile:
            self._pass = tf.function(self._pass, jit_compile=True, autograph=False)
        self.train = tf.function(self._train, autograph=False)
        self.train_several = tf.function(self._train_several, autograph=False)

    def cut_into(self, micro_batches: int) -> None:
        """Has further steps cut a replica's batch into another number of parts."""
        if micro_batches != self.micro_batches:
            self.micro_batches = micro_batches
            self._compile()

    @property
    def metric_variables(self) -> list[keras.Variable]:
        """The state of the metrics."""
        return [variable for metric in self.metrics for variable in metric.variables]

    def reset_metrics(self) -> None:
        """Resets all metrics."""
        for metric in self.metrics:
            metric.reset_state()

    def read_metrics(self) -> dict[str, float]:
        """Reads the metrics over all replicas; one whose result is a dict gives all its entries."""
        results: dict = {}
        for metric in self.metrics:
            result = metric.result()
            results |= result if isinstance(result, dict) else {metric.name: result}
        for name, result in results.items():
            # Not by `float`: a variable on several replicas has an array, but no number.
            array = keras.ops.convert_to_numpy(result)
            if np.size(array) != 1:
                raise ValueError(
                    "`metrics` must give single numbers, or dicts of them. "
                    f"Received: {name!r}, which gives the shape {np.shape(array)}"
                )
            results[name] = float(np.reshape(array, ()))
        return results

    def _train_several(self, iterator, steps: tf.Tensor) -> None:
        """Does what `train` does several times, without returning to Python."""

        def body(step: tf.Tensor) -> tf.Tensor:
            self._train(iterator)
            return step + 1

        tf.while_loop(lambda step: step < steps, body, [0], parallel_iterations=1)

    @tf.function(autograph=False)
    def evaluate(self, batch: tuple) -> Any:
        """Adds one distributed batch of (images, labels, weights) to `metrics`.

        Returns the outputs, a tensor for each replica.
        """
        return self.strategy.run(self._evaluate_replica, args=batch)

    @tf.function(autograph=False)
    def average_statistics(self, batch: tuple, count: tf.Tensor) -> None:
        """Makes the statistics the average over `count` batches, of which this is the last.

        With the momentum 1 - 1/k at the k-th batch, a moving average is the plain average.
        """
        norms = list(_batch_norms(self.model))
        if not norms:
            raise ValueError(
                "`model` must have batch normalization. "
                f"Received: {self.model.name!r}, which has none"
            )
        before = [norm.momentum for norm in norms]
        momentum = 1.0 - 1.0 / tf.cast(count, tf.float32)
        try:
            for norm in norms:
                norm.momentum = momentum
            self.strategy.run(self._average_statistics_replica, args=batch)
        finally:
            for norm, own in zip(norms, before, strict=True):
                norm.momentum = own

    def _next(self, iterator) -> tuple:
        if self.input_seconds is None:
            return next(iterator)
        started = tf.timestamp()
        with tf.control_dependencies([started]):
            batch = next(iterator)
        arrived = [x for part in batch for x in self.strategy.experimental_local_results(part)]
        with tf.control_dependencies(arrived):
            self.input_seconds.assign_add(tf.timestamp() - started)
        return batch

    def _train(self, iterator) -> None:
        """Trains on the next batch of a distributed iterator."""
        outcome = self.strategy.run(self._train_replica, args=self._next(iterator))
        if self.loss_scale is not None:
            finite = self.strategy.experimental_local_results(outcome.finite)[0]
            update = functools.partial(self.strategy.run, self._update, args=(outcome,))
            tf.cond(finite, update, lambda: None)
            self.loss_scale.update(finite)
        self.count.assign_add(1)

    def _train_replica(self, images: tf.Tensor, labels: tf.Tensor) -> Outcome | None:
        """Runs the model over a replica's micro-batches; returns an outcome that may overflow."""
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
        scale = None if self.loss_scale is None else self.loss_scale.scale.value()
        given_labels = labels
        if self.transform is not None:
            images, labels = self.transform(images, labels, tf.stack([self.count, replica]))
        weights, statistics, seeds = self._values()
        own_seed = tf.stack([replica * _REPLICA_SEED_STRIDE, 0])
        seeds = [seed + tf.cast(own_seed, seed.dtype) for seed in seeds]

        gradients: list[tf.Tensor] = []
        loss, predictions = 0.0, []
        rows = [images, labels]
        if self.class_weights is not None:
            rows.append(self._shares(labels))
        parts = [rows]
        if self.micro_batches > 1:
            cut = [tf.split(tensor, self.micro_batches) for tensor in rows]
            parts = [list(part) for part in zip(*cut, strict=True)]
        for image_part, label_part, *share_part in parts:
            # Without the dependency the parts would run side by side and save no memory.
            with tf.control_dependencies(gradients):
                targets = None
                if self.distillation is not None:
                    targets = self.distillation.targets(image_part)
                part_gradients, statistics, seeds, part_loss, part_predictions = self._pass(
                    weights, statistics, seeds, image_part, label_part, scale, targets, *share_part
                )
                pairs = zip(gradients, part_gradients, strict=True)
                gradients = [a + b for a, b in pairs] if gradients else part_gradients
            loss += part_loss
            predictions.append(part_predictions)
        predictions = tf.concat(predictions, 0) if self.micro_batches > 1 else predictions[0]

        # Soft labels of the transform are for the loss; metrics read labels as the data has them.
        if labels.shape.rank > given_labels.shape.rank:
            labels = tf.cast(tf.argmax(labels, -1), given_labels.dtype)
        elif self.transform is not None and labels.shape.rank > 1:
            labels = tf.round(labels)
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        error = tf.zeros(())
        if self._observe_error is not None:
            error = tf.reduce_mean(tf.cast(_wrong(labels, predictions), tf.float32))
        changing = [statistics[i] for i in self._changing]
        *statistics, error = _mean_over_replicas([*changing, error])
        outcome = Outcome(
            gradients=gradients if scale is None else [one / scale for one in gradients],
            statistics=statistics,
            error=error,
            # An infinity on any replica has made the sum over all of them infinite or NaN.
            finite=tf.reduce_all([tf.reduce_all(tf.math.is_finite(x)) for x in gradients]),
            seeds=[seed - tf.cast(own_seed, seed.dtype) for seed in seeds],
            loss=loss,
            labels=labels,
            predictions=predictions,
        )
        if scale is None:
            self._update(outcome)
            return None
        return outcome

    def _shares(self, labels: tf.Tensor) -> tf.Tensor:
        """Returns the share of each example in the weighted mean over the global batch."""
        of_class = tf.constant(self.class_weights, tf.float32)
        if labels.shape.rank > 1:
            weights = tf.linalg.matvec(tf.cast(labels, tf.float32), of_class)
        else:
            weights = tf.gather(of_class, labels)
        context = tf.distribute.get_replica_context()
        total = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(weights))
        # A batch of classes of weight 0 alone teaches nothing.
        return tf.math.divide_no_nan(weights, total)

    def _forward_backward(
        self, weights, statistics, seeds, images, labels, scale, targets=None, shares=None
    ):
        """Returns gradients, statistics, seeds, loss and predictions; assigns nothing."""
        with tf.GradientTape() as tape:
            tape.watch(weights)
            with self._values_in_place(weights, statistics, seeds) as scope:
                predictions = tf.cast(self.model(images, training=True), tf.float32)
                penalty = _penalty(self.model)
            statistics, seeds = self._new_values(scope, statistics)
            # Shares are equal, so their means add up to the mean over the global batch.
            losses = self.example_losses(labels, predictions)
            if targets is not None:
                losses = self.distillation.losses(targets, predictions, losses)
            share = 1.0 / (self.strategy.num_replicas_in_sync * self.micro_batches)
            if shares is None:
                loss = (tf.reduce_mean(losses) + penalty) * share
            else:
                loss = tf.reduce_sum(losses * shares) + penalty * share
            scaled_loss = loss if scale is None else loss * scale
        # A SavedModel inside the model reads its own variables, past the scope's substitutes.
        variables = self.model.trainable_variables
        sources = (weights, [variable.value for variable in variables])
        gradients = [
            _sum_of(pair, variable)
            for *pair, variable in zip(*tape.gradient(scaled_loss, sources), variables, strict=True)
        ]
        return gradients, statistics, seeds, loss, predictions

    @contextlib.contextmanager
    def _values_in_place(self, weights, statistics, seeds) -> Iterator[keras.StatelessScope]:
        """Has the model read these values, not its variables, and refuses one that does not."""
        variables = self.model.trainable_variables + self._statistics + self._seeds
        values = zip(variables, weights + statistics + seeds, strict=True)
        with (
            private.global_generator(self._decoy),
            keras.StatelessScope(state_mapping=values, collect_losses=True) as scope,
        ):
            yield scope
        for variable, value in zip(self.model.trainable_variables, weights, strict=True):
            if scope.get_current_value(variable) is not value:
                raise ValueError(
                    "`model` must leave its weights to the optimizer. Received: a model that "
                    f"assigns {variable.path!r} as it runs"
                )
        if scope.get_current_value(self._decoy.state) is not None:
            raise ValueError(
                "`model` must draw random numbers from a keras.random.SeedGenerator of its layers, "
                "so that they differ from step to step and a run can be resumed. Received: a model "
                "that draws from Keras's global generator"
            )

    def _new_values(self, scope: keras.StatelessScope, statistics) -> tuple[list, list]:
        """Returns statistics and seeds as the model has left them; notes which it has changed."""
        new = [scope.get_current_value(v) for v in self._statistics]
        pairs = enumerate(zip(statistics, new, strict=True))
        self._changing = [i for i, (old, value) in pairs if value is not old]
        return new, [scope.get_current_value(v) for v in self._seeds]

    def _update(self, outcome: Outcome) -> None:
        """Updates weights, statistics and metrics of one replica with a batch that is good."""
        with private.gradients_are_summed(self.optimizer):
            self.optimizer.apply(outcome.gradients, self.model.trainable_variables)
        changing = [self._statistics[i] for i in self._changing]
        _assign_on_replicas(changing + self._seeds, outcome.statistics + outcome.seeds)
        if self.averages:
            _assign_on_replicas(self.averages, self._next_averages())
        if self._observe_error is not None:
            self._observe_error(outcome.error, self.optimizer.iterations.value)
        loss, *metrics = self.metrics
        examples = tf.cast(tf.shape(outcome.predictions)[0], tf.float32)
        loss.update_state(outcome.loss * self.strategy.num_replicas_in_sync, sample_weight=examples)
        for metric in metrics:
            metric.update_state(outcome.labels, outcome.predictions)

    def _next_averages(self) -> list[tf.Tensor]:
        """Returns the averages of the statistics; after the first update these themselves."""
        # As Keras averages the weights.
        is_first = tf.equal(self.optimizer.iterations.value, 1)
        momentum = tf.where(is_first, 0.0, self.optimizer.ema_momentum)
        return [
            _between(average.value, one.value, tf.cast(momentum, one.dtype))
            for average, one in zip(self.averages, self._statistics, strict=True)
        ]

    def averaged_values(self) -> list[tuple[keras.Variable, np.ndarray]]:
        """Returns weights and statistics of the model with their averages, for an optimizer's EMA.

        Counters and the state of random numbers are not among them.
        """
        weights = private.averages_of(self.optimizer)
        pairs = [
            *zip(self.model.trainable_variables, weights, strict=True),
            *zip(self._statistics, self.averages, strict=True),
        ]
        return [(variable, average.numpy()) for variable, average in pairs]

    def _values(self) -> tuple[list[tf.Tensor], ...]:
        groups = (self.model.trainable_variables, self._statistics, self._seeds)
        return tuple([tf.convert_to_tensor(v.value) for v in group] for group in groups)

    def _average_statistics_replica(self, images: tf.Tensor, labels: tf.Tensor) -> None:
        values = self._values()
        with self._values_in_place(*values) as scope:
            self.model(images, training=True)
        statistics, _ = self._new_values(scope, values[1])
        changing = [self._statistics[i] for i in self._changing]
        _assign_on_replicas(changing, _mean_over_replicas([statistics[i] for i in self._changing]))

    def _evaluate_replica(
        self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor
    ) -> tf.Tensor:
        predictions = tf.cast(self.model(images, training=False), tf.float32)
        losses = self.example_losses(labels, predictions) + _penalty(self.model)
        loss, *metrics = self.metrics
        loss.update_state(losses, sample_weight=weights)
        if not self.cuts_padding:
            for metric in metrics:
                metric.update_state(labels, predictions, sample_weight=weights)
            return predictions
        # Without the rows that only fill the batch, rather than with weights: as in Keras's `fit`,
        # metrics may take none, or pass over them.
        real = weights > 0.0

        def update() -> None:
            rows = [tf.boolean_mask(tensor, real) for tensor in (labels, predictions)]
            for metric in metrics:
                metric.update_state(*rows)

        tf.cond(tf.reduce_any(real), update, lambda: None)
        return predictions


def check_synchronization(model: keras.Model, jit_compile: bool) -> None:
    """Raises a ValueError if a batch normalization could not ask the other replicas."""
    if jit_compile and any(norm.synchronized for norm in _batch_norms(model)):
        raise ValueError(
            "`jit_compile` must be False with synchronized batch normalization on several "
            "replicas: inside XLA's graph one replica cannot ask the others. "
            "Received: jit_compile=True"
        )
    layers = private.nested_layers(model)
    stacks = (layer for layer in layers if isinstance(layer, BlockStack) and layer.repeats > 1)
    if any(norm.synchronized for stack in stacks for norm in _batch_norms(stack.block)):
        raise ValueError(
            "`model` must have no stacked blocks (stack_blocks=False, recompute=False) with "
            "synchronized batch normalization on several replicas: inside a loop one replica "
            f"cannot ask the others. Received: {model.name!r}"
        )


def _batch_norms(model: keras.Model) -> Iterator[keras.layers.BatchNormalization]:
    for layer in private.nested_layers(model):
        if isinstance(layer, BlockStack):
            yield from _batch_norms(layer.block)
        elif isinstance(layer, keras.layers.BatchNormalization):
            yield layer


def _mean_over_replicas(values: list[tf.Tensor]) -> list[tf.Tensor]:
    """Returns the means of statistics over all replicas; whole numbers are the first replica's.

    They count or point at something, alike on all replicas, and have no mean.
    """
    context = tf.distribute.get_replica_context()
    is_first = tf.equal(context.replica_id_in_sync_group, 0)
    floats = [value for value in values if value.dtype.is_floating]
    # As int64, since TensorFlow keeps int32 on the host and does not reduce across it.
    others = [tf.cast(value, tf.int64) for value in values if not value.dtype.is_floating]
    others = [tf.where(is_first, value, tf.zeros_like(value)) for value in others]
    reduce = tf.distribute.ReduceOp
    means = iter(context.all_reduce(reduce.MEAN, floats) if floats else ())
    firsts = iter(context.all_reduce(reduce.SUM, others) if others else ())
    return [
        next(means) if value.dtype.is_floating else tf.cast(next(firsts), value.dtype)
        for value in values
    ]


def _between(average: tf.Tensor, value: tf.Tensor, momentum: tf.Tensor) -> tf.Tensor:
    """Returns the next value of a moving average; whole numbers count, and have none."""
    value = tf.convert_to_tensor(value)
    if not value.dtype.is_floating:
        return value
    return momentum * tf.convert_to_tensor(average) + (1 - momentum) * value


def _assign_on_replicas(variables: list[keras.Variable], values: list[tf.Tensor]) -> None:
    """Assigns on every replica, from within one, what is the same on all."""

    def assign(strategy: tf.distribute.Strategy, values: list) -> None:
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(
                variable.value, lambda v, new: v.assign(new), args=(value,), group=False
            )

    tf.distribute.get_replica_context().merge_call(assign, args=(values,))


def _sum_of(gradients: Sequence, variable: keras.Variable) -> tf.Tensor:
    """Returns the sum of the gradients that are not None."""
    connected = [tf.convert_to_tensor(gradient) for gradient in gradients if gradient is not None]
    if not connected:
        warnings.warn(f"The loss does not depend on the weight {variable.path!r}.", stacklevel=2)
        return tf.zeros(variable.shape, variable.dtype)
    return connected[0] if len(connected) == 1 else tf.add_n(connected)


def _wrong(labels: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
    """Returns whether the best class of each example is not its own, or not one of its own."""
    if predictions.shape[-1] == 1:
        return (predictions[:, 0] > 0.5) != (labels > 0)
    best = tf.argmax(predictions, -1)
    if labels.shape.rank > 1:
        return tf.gather(labels, best, batch_dims=1) < 0.5
    return best != tf.cast(labels, tf.int64)


def _penalty(model: keras.Model) -> tf.Tensor:
    """Returns the model's regularization and added losses, a float32 scalar."""
    return tf.add_n([tf.zeros(()), *(tf.cast(loss, tf.float32) for loss in model.losses)])


def _without_reduction(loss: keras.losses.Loss | str | Callable) -> Callable:
    """Returns the loss as a function of (labels, predictions) to one float32 value an example."""
    loss = checks.known("loss", loss, keras.losses.get, none_allowed=False)
    if isinstance(loss, keras.losses.Loss):
        # Not by `copy`, which makes Keras's objects anew from what they say of themselves.
        given, loss = loss, object.__new__(type(loss))
        vars(loss).update(vars(given))
        loss.reduction = None

    def example_losses(labels: tf.Tensor, predictions: tf.Tensor) -> tf.Tensor:
        losses = tf.cast(loss(labels, predictions), tf.float32)
        if losses.shape.rank != 1:
            raise ValueError(
                "`loss` must give one value an example, a vector; leave the mean over the batch to "
                f"the trainer. Received: a loss that gives the shape {tuple(losses.shape)}"
            )
        return losses

    return example_losses
