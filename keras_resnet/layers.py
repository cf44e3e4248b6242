"""The few layers that Keras lacks. All are registered, so that `load_model` finds them.

They use `keras.ops`, but for TensorFlow's fused batch normalization kernel and its loop that keeps
only what the gradient needs, which are used on that backend.
"""

from __future__ import annotations

import collections
import contextlib

import keras
from keras import ops

from keras_resnet.utils import checks, private

PACKAGE = "keras_resnet"


class Remembering:
    """A layer that may hold how the model that it is in was built, as a `NetworkConfig` in JSON.

    Keras carries the configs of layers through saving, loading and cloning, but nothing of a model
    itself. Every network has a layer of one of the classes below.
    """

    network: str | None = None

    def get_config(self):
        config = super().get_config()
        return config if self.network is None else {**config, "network": self.network}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        network = config.pop("network", None)
        layer = super().from_config(config)
        layer.network = network
        return layer


@keras.saving.register_keras_serializable(PACKAGE)
class ZeroPadShortcut(keras.layers.Layer):
    """Shortcut of option A: strided subsampling, and zero channels where the block adds some.

    It has no parameters: output pixel (i, j) is input pixel (i * strides, j * strides), and the
    channels beyond the input's are zero (section 3.3 of arXiv 1512.03385).

    Args:
        filters: Channels of the output, at least those of the input.
        strides: Subsampling along each side.
        data_format: "channels_last", "channels_first", or None for Keras's default.

    Input shape: `(batch, H, W, C)`, or `(batch, C, H, W)` for channels first.
    Output shape: `(batch, ceil(H / strides), ceil(W / strides), filters)`, likewise.

    Raises:
        ValueError: If an argument is out of range, or the input has more channels than `filters`.
    """

    def __init__(self, filters, strides=1, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.filters = checks.integer("filters", filters)
        self.strides = checks.integer("strides", strides)
        self.data_format = checks.data_format(data_format)
        self.input_spec = keras.layers.InputSpec(ndim=4)
        last, s = self.data_format == "channels_last", self.strides
        self._axis, self._steps = (3, (1, s, s, 1)) if last else (1, (1, 1, s, s))

    def build(self, input_shape):
        channels = input_shape[self._axis]
        if channels is None or channels > self.filters:
            raise ValueError(
                "`filters` of a zero-pad shortcut must be at least the channels of its input, "
                f"{channels}; where a net narrows use shortcut='B'. "
                f"Received: filters={self.filters}"
            )

    def call(self, inputs):
        padding = [(0, 0)] * 4
        padding[self._axis] = (0, self.filters - inputs.shape[self._axis])
        return ops.pad(inputs[tuple(slice(None, None, step) for step in self._steps)], padding)

    def compute_output_shape(self, input_shape):
        sides = zip(input_shape, self._steps, strict=True)
        shape = [side if side is None else -(-side // step) for side, step in sides]
        shape[self._axis] = self.filters
        return tuple(shape)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "data_format": self.data_format,
        }


@keras.saving.register_keras_serializable(PACKAGE)
class BatchNormalization(Remembering, keras.layers.BatchNormalization):
    """Keras's batch normalization, computed by TensorFlow's fused kernel wherever that applies.

    It has the name of Keras's class, since weights files number the layers by class: so Keras's own
    networks and these read each other's.

    The fused kernel computes images (rank 4, channels last or first) in float32, bfloat16 and
    float16, in training, in inference and frozen; parameters and statistics stay in float32. In
    every other case (another backend, rank or dtype, `renorm`, a mask, and training with
    `synchronized`, since the kernel cannot wait for other replicas) Keras computes it. Outputs,
    gradients and moving statistics agree to rounding.

    Takes the arguments of `keras.layers.BatchNormalization`.
    """

    def _fused_format(self, inputs, mask, batch_statistics):
        """Returns the kernel's data format, or None where it does not apply."""
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        applies = (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and dtype in ("float32", "bfloat16", "float16")
            # Weights in float64 need statistics in float64, which the kernel lacks.
            and self.variable_dtype == "float32"
            and not (mask is not None or self.renorm)
            # The gradient of the kernel includes the statistics of its own batch only.
            and not (self.synchronized and batch_statistics)
        )
        return {3: "NHWC", -1: "NHWC", 1: "NCHW", -3: "NCHW"}.get(self.axis) if applies else None

    def call(self, inputs, training=None, mask=None):
        batch_statistics = bool(training) and self.trainable
        data_format = self._fused_format(inputs, mask, batch_statistics)
        if data_format is None:
            return super().call(inputs, training=training, mask=mask)

        import tensorflow as tf

        channels = (inputs.shape[self.axis],)
        gamma = ops.convert_to_tensor(self.gamma) if self.scale else tf.ones(channels)
        beta = ops.convert_to_tensor(self.beta) if self.center else tf.zeros(channels)
        empty = tf.zeros((0,))
        # The raw op, since `tf.nn.fused_batch_norm` raises epsilon to at least 1.001e-5.
        normalized = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=gamma,
            offset=beta,
            mean=empty if batch_statistics else ops.convert_to_tensor(self.moving_mean),
            variance=empty if batch_statistics else ops.convert_to_tensor(self.moving_variance),
            epsilon=self.epsilon,
            data_format=data_format,
            is_training=batch_statistics,
        )
        if batch_statistics:
            # The kernel reports the unbiased variance; Keras averages the biased one.
            count = tf.cast(tf.size(inputs) // channels[0], tf.float32)
            self._move(self.moving_mean, normalized.batch_mean)
            self._move(self.moving_variance, normalized.batch_variance * ((count - 1) / count))
        return ops.cast(normalized.y, self.compute_dtype)

    def _move(self, average, value):
        average.assign(average * self.momentum + value * (1.0 - self.momentum))

    def load_own_variables(self, store):
        # Files of earlier versions have them under the name that this class had then.
        names = ("fused_batch_normalization", "batch_normalization")
        super().load_own_variables(private.group_of(self, store, names))


@keras.saving.register_keras_serializable(PACKAGE)
class FusedBatchNormalization(BatchNormalization):
    """The same in a `.keras` file of an earlier version, until its weights are loaded.

    Keras finds the weights by the names of classes, those of other layers behind it included.
    """

    def load_own_variables(self, store):
        super().load_own_variables(store)
        self.__class__ = BatchNormalization


@keras.saving.register_keras_serializable(PACKAGE)
class StandardizedConv2D(Remembering, keras.layers.Conv2D):
    """A convolution that standardizes each filter's kernel to mean 0 and variance 1.

    With it networks of group normalization reach the accuracy of batch normalization. Source: Qiao
    et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization",
    arXiv 1903.10520, section 3.

    Takes the arguments of `keras.layers.Conv2D`.
    """

    # Added to the variance, as in timm's StdConv2d.
    EPSILON = 1e-6

    def convolution_op(self, inputs, kernel):
        weights = ops.cast(kernel, "float32")
        mean, variance = ops.moments(weights, axes=(0, 1, 2), keepdims=True)
        weights = (weights - mean) * ops.rsqrt(variance + self.EPSILON)
        return super().convolution_op(inputs, ops.cast(weights, kernel.dtype))


@keras.saving.register_keras_serializable(PACKAGE)
class StochasticDepth(keras.layers.Layer):
    """Drops the branch of a block for some images of a training batch: their net is shallower.

    In training each image's branch becomes zero with probability `rate`, and is divided by
    1 - rate otherwise; in inference it is unchanged. Source: Huang et al., "Deep Networks with
    Stochastic Depth", arXiv 1603.09382, which drops a branch for the whole batch and scales in
    inference instead; the expectation is the same.

    Args:
        rate: Probability of dropping the branch, in [0, 1).
        seed: Seed of the draws, or None.

    Input and output shape: `(batch, ...)`.
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.rate = checks.fraction("rate", rate)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=False):
        # In a stack of blocks the drop rate is a tensor, that of the block that is computed.
        if not training or (isinstance(self.rate, float) and not self.rate):
            return inputs
        shape = (ops.shape(inputs)[0], *(1,) * (len(inputs.shape) - 1))
        draws = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        factor = ops.cast(draws >= self.rate, "float32") / (1.0 - self.rate)
        return inputs * ops.cast(factor, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@keras.saving.register_keras_serializable(PACKAGE)
class BlockStack(Remembering, keras.layers.Layer):
    """Equal consecutive blocks as one loop over stacked weights.

    Block i of the stack is `block` with slice i of every weight. Outputs, gradients and moving
    statistics are those of the same blocks one after the other, but the graph holds one block
    whatever their number: a 1202-layer network builds in a second, its first step starts early, and
    its depth is no recursion over layers in Keras.

    A single block may change the shape; it is computed without a loop.

    Args:
        block: A functional Keras model whose output has the shape of its input. It serves as the
            pattern only; its own values are never used. In the networks here its layers are named
            as those of the stack's first block (conv2_block2_1_conv), from which the names in the
            unrolled net follow.
        repeats: Number of blocks in the stack.
        recompute: Whether to keep only each block's input for the gradient and compute the rest
            again: less memory for about a third more time. Moving statistics move once.
        drop_rates: Drop rate of stochastic depth of every block, in place of that of the pattern's
            `StochasticDepth` layers; None where it has none.
        frozen_norms: Whether batch normalizations stay frozen, statistics and scales, while the
            rest of the stack trains.

    Input and output shape: those of `block`.
    """

    def __init__(
        self, block, repeats, recompute=False, drop_rates=None, frozen_norms=False, **kwargs
    ):
        self._frozen_norms = bool(frozen_norms)
        super().__init__(**kwargs)
        self.repeats = checks.integer("repeats", repeats)
        functional = isinstance(block, keras.Model)
        if not functional or (self.repeats > 1 and block.input_shape != block.output_shape):
            raise ValueError(
                "`block` must be a functional Keras model whose output has the shape of its input. "
                f"Received: block={block!r}"
            )
        lost = [
            layer.name
            for layer in block.layers
            if layer.activity_regularizer is not None
            or any(weight.constraint is not None for weight in layer.weights)
        ]
        if lost:
            raise ValueError(
                "`block` must have no constraint and no activity regularizer, which a stack cannot "
                f"keep. Received: block with layer {lost[0]!r}"
            )
        _set_trainable(block, True)
        # In a function, since a layer held as an attribute would add its own weights to the stack.
        self._pattern = lambda: block
        self.recompute = bool(recompute)
        if drop_rates is not None and len(drop_rates) != self.repeats:
            raise ValueError(
                f"`drop_rates` must have one rate for each of the {self.repeats} blocks. "
                f"Received: drop_rates={drop_rates}"
            )
        self.drop_rates = drop_rates and [checks.fraction("drop_rates", r) for r in drop_rates]

    @property
    def block(self) -> keras.Model:
        """The pattern of one block."""
        return self._pattern()

    @property
    def frozen_norms(self) -> bool:
        """True if batch normalizations stay frozen while the rest trains."""
        return self._frozen_norms

    @frozen_norms.setter
    def frozen_norms(self, value):
        self._frozen_norms = bool(value)
        self._set_trainable_variables()

    @property
    def trainable(self) -> bool:
        return keras.layers.Layer.trainable.fget(self)

    @trainable.setter
    def trainable(self, value):
        keras.layers.Layer.trainable.fset(self, value)
        self._set_trainable_variables()

    def _set_trainable_variables(self):
        """Leaves scales and offsets out of the trainable variables where they are frozen."""
        for owner, name, variable in self.sliced_weights() if self.built else ():
            if name in ("gamma", "beta") and _is_batch_norm(self.block.get_layer(owner)):
                variable.trainable = self.trainable and not self._frozen_norms

    def build(self, input_shape):
        block = self.block
        seeds = [v for v in block.variables if not any(v is w for w in block.weights)]
        self._seed_generator = keras.random.SeedGenerator() if seeds else None
        self._pattern_seeds = lambda: seeds
        owners = {id(w): layer for layer in block.layers for w in layer.weights}
        pattern, self._stacked = [], []
        # The weights that are moving statistics, found before freezing can hide them.
        _set_trainable(block, True)
        self._moving = [i for i, weight in enumerate(block.weights) if not weight.trainable]
        for weight in block.weights:
            owner = owners[id(weight)]
            pattern.append((owner.name, weight))
            self._stacked.append(
                self.add_weight(
                    shape=(self.repeats, *weight.shape),
                    initializer=_stacked_initializer(owner, weight.name, self.repeats),
                    regularizer=_stacked_regularizer(weight.regularizer),
                    dtype=weight.dtype,
                    trainable=weight.trainable,
                    autocast=False,
                    name=f"{owner.name}_{weight.name}",
                )
            )
        self._pattern_weights = lambda: pattern
        self.built = True
        self._set_trainable_variables()

    def sliced_weights(self) -> list[tuple[str, str, keras.Variable]]:
        """Returns (layer of the pattern, weight, stacked variable) for every weight."""
        pairs = zip(self._pattern_weights(), self._stacked, strict=True)
        return [(layer, weight.name, variable) for (layer, weight), variable in pairs]

    # Saved under the pattern's names, so that a file can be read without the model.
    def save_own_variables(self, store):
        for (layer, _, variable), position in self.with_positions():
            store[f"{layer}.{position}"] = variable

    def load_own_variables(self, store):
        for (layer, _, variable), position in self.with_positions():
            variable.assign(store[f"{layer}.{position}"])

    def with_positions(self):
        """Pairs each of `sliced_weights` with its place among the weights of its layer."""
        seen = collections.Counter()
        for entry in self.sliced_weights():
            yield entry, seen[entry[0]]
            seen[entry[0]] += 1

    def call(self, inputs, training=None):
        block, seeds = self.block, self._pattern_seeds()
        _set_trainable(block, self.trainable, norms=not self._frozen_norms)
        weights = [weight for _, weight in self._pattern_weights()]

        def step(x, values, block_seeds, rates):
            mapping = [*zip(weights, values, strict=True), *zip(seeds, block_seeds, strict=True)]
            with keras.StatelessScope(mapping) as scope, _dropping_at(block, rates):
                outputs = block(x, training=training)
            return outputs, [scope.get_current_value(weights[i]) for i in self._moving]

        stacked = [ops.convert_to_tensor(variable) for variable in self._stacked]
        dropping = training and self.drop_rates is not None
        rates = [ops.convert_to_tensor(self.drop_rates, "float32")] if dropping else []
        outputs, moved = _scan(
            keras.remat(step) if self.recompute else step,
            inputs,
            (stacked, self._draw_seeds(len(seeds)), rates),
            self._moving,
            self.repeats,
        )
        if training and self.trainable:
            for i, value in zip(self._moving, moved, strict=True):
                self._stacked[i].assign(value)
        return outputs

    def _draw_seeds(self, count):
        """Returns `count` arrays of seeds, [repeats, 2] each: one seed for every block."""
        if not count:
            return []
        seed = self._seed_generator.next()
        keys = ops.reshape(ops.arange(self.repeats * count, dtype=seed.dtype), (-1, count))
        return [
            ops.stack([seed[0] + keys[:, i], ops.repeat(seed[1], self.repeats)], axis=1)
            for i in range(count)
        ]

    def compute_output_shape(self, input_shape):
        return self.block.compute_output_shape(input_shape)

    def get_config(self):
        # The layer's own `trainable` says whether the stack is frozen, not the pattern's.
        _set_trainable(self.block, True)
        return {
            **super().get_config(),
            "block": keras.saving.serialize_keras_object(self.block),
            "repeats": self.repeats,
            "recompute": self.recompute,
            "drop_rates": self.drop_rates,
            "frozen_norms": self.frozen_norms,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["block"] = keras.saving.deserialize_keras_object(config["block"])
        return super().from_config(config)


def _is_batch_norm(layer):
    return isinstance(layer, keras.layers.BatchNormalization)


def _set_trainable(block, trainable, norms=True):
    """Freezes or unfreezes the layers of a block; without `norms` its normalizations are frozen."""
    # One by one, since Keras skips `block.trainable = True` where only its layers are frozen.
    block.trainable = trainable
    for layer in block.layers:
        layer.trainable = trainable and (norms or not _is_batch_norm(layer))


@contextlib.contextmanager
def _dropping_at(block, rates):
    """Sets the drop rate of the pattern's `StochasticDepth` layers to that of one block, if any."""
    layers = [layer for layer in block.layers if isinstance(layer, StochasticDepth)]
    own = [layer.rate for layer in layers]
    try:
        for layer in layers:
            layer.rate = rates[0] if rates else layer.rate
        yield
    finally:
        for layer, rate in zip(layers, own, strict=True):
            layer.rate = rate


def _scan(step, x, stacked, moving, repeats):
    """Feeds x through `step(x, *slices) -> x, moved` for every slice of the stacked lists.

    Returns the last x, and the `moved` of all steps, stacked: the new values of those of the first
    list with the indices `moving`.
    """
    if repeats == 1:
        x, moved = step(x, *([value[0] for value in values] for values in stacked))
        return x, [ops.expand_dims(value, 0) for value in moved]
    if keras.backend.backend() != "tensorflow":
        return ops.scan(lambda carry, slices: step(carry, *slices), x, stacked, length=repeats)

    # Not `ops.scan`: on TensorFlow it requires the results of a step to have the carry's shape.
    import tensorflow as tf

    def array_like(values):
        return tf.TensorArray(values.dtype, repeats, element_shape=values.shape[1:])

    slices = [[array_like(v).unstack(v) for v in values] for values in stacked]

    def body(i, x, results):
        outputs, moved = step(x, *([array.read(i) for array in arrays] for arrays in slices))
        outputs.set_shape(x.shape)
        return i + 1, outputs, [r.write(i, m) for r, m in zip(results, moved, strict=True)]

    _, x, results = tf.while_loop(
        lambda i, *_: i < repeats,
        body,
        (0, tf.convert_to_tensor(x), [array_like(stacked[0][i]) for i in moving]),
        maximum_iterations=repeats,
        parallel_iterations=1,
    )
    return x, [array.stack() for array in results]


def _stacked_initializer(layer, weight_name, repeats):
    """Returns an initializer that draws every slice as `layer` draws its weight."""
    initializer = getattr(layer, f"{weight_name}_initializer")

    def initialize(shape, dtype=None):
        return ops.stack([initializer.clone()(shape[1:], dtype=dtype) for _ in range(repeats)])

    return initialize


@keras.saving.register_keras_serializable(PACKAGE)
class SumOverBlocks(keras.regularizers.Regularizer):
    """Penalty of a stacked weight: the sum of `regularizer` over its slices."""

    def __init__(self, regularizer):
        self.regularizer = keras.regularizers.get(regularizer)

    def __call__(self, stacked):
        return ops.sum(ops.vectorized_map(self.regularizer, stacked))

    def get_config(self):
        return {"regularizer": keras.regularizers.serialize(self.regularizer)}


def _stacked_regularizer(regularizer):
    additive = (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2)
    # Not their subclasses, which may be anything.
    if regularizer is None or type(regularizer) in additive:
        return regularizer
    return SumOverBlocks(regularizer)


@keras.saving.register_keras_serializable(PACKAGE)
class DilatedAveragePooling2D(keras.layers.Layer):
    """Average pooling of stride 1 over windows of 2x2 pixels that are `dilation` apart.

    The window of a pixel begins at that pixel; pixels beyond the edge do not count. Every
    `dilation * 2`-th output is that of `AveragePooling2D(2, padding="same")` on every
    `dilation`-th input.

    Args:
        dilation: Distance of the pixels, at least 1.
        data_format: "channels_last", "channels_first", or None for Keras's default.

    Input and output shape: `(batch, H, W, C)`, or `(batch, C, H, W)` for channels first.
    """

    def __init__(self, dilation=1, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.dilation = checks.integer("dilation", dilation)
        self.data_format = checks.data_format(data_format)

    def call(self, inputs):
        first = 1 if self.data_format == "channels_last" else 2
        return self._along(self._along(inputs, first), first + 1)

    def _along(self, x, axis):
        def part(start, end=None):
            return x[(slice(None),) * axis + (slice(start, end),)]

        pairs = (part(None, -self.dilation) + part(self.dilation)) / 2
        return ops.concatenate([pairs, part(-self.dilation)], axis)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "dilation": self.dilation,
            "data_format": self.data_format,
        }
