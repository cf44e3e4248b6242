"""Layers of quantization-aware training: they round as 8-bit integers do, and pass on gradients.

Numbers between layers have 256 levels of a range that is learned with the weights, in which zero is
exact; kernels have 255 levels from -m to m, m the largest weight of each output channel. Source:
Jacob et al., arXiv 1712.05877, section 3; Krishnamoorthi, arXiv 1806.08342, sections 2 and 4. All
layers are registered, so that `load_model` finds them. They use Keras only, but for TensorFlow's
own operation on that backend.
"""

from __future__ import annotations

import keras
from keras import ops

from keras_resnet.layers import PACKAGE, Remembering

# Steps between the ends of a range, and from zero to the largest weight.
_STEPS, _KERNEL_STEPS = 255, 127
# Ends of a range before it is learned (arXiv 1712.05877 has activations of at most 6).
START = 6.0
# The least upper end: of less, as behind a ReLU of zeros alone, a bias has no 32-bit integer.
_LEAST = 1e-3


def fake_quantize(x, low, high):
    """Rounds numbers to 256 levels from `low` to `high`; the gradient is that of clipping.

    The range is moved by less than a step, so that zero is a level. Numbers inside of it pass on
    their gradient; `low` and `high` receive that of the numbers beyond.

    Args:
        x: Tensor of floats.
        low: Scalar, at most 0.
        high: Scalar, at least 0.

    Returns:
        A tensor of float32 with the shape of `x`.
    """
    x, low, high = (ops.convert_to_tensor(value, "float32") for value in (x, low, high))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.quantization.fake_quant_with_min_max_vars(x, low, high, num_bits=8)
    return _fake_quantize(x, low, high)


def _fake_quantize(x, low, high):
    """Computes the same in Keras's operations."""
    step, moved_low, moved_high = nudged(low, high)
    moved_low = low + ops.stop_gradient(moved_low - low)
    moved_high = high + ops.stop_gradient(moved_high - high)
    # Not `clip`, which shares the gradient of a number that is the end itself.
    clipped = ops.where(x < moved_low, moved_low, ops.where(x > moved_high, moved_high, x))
    return _straight_through(ops.floor(clipped / step + 0.5) * step, clipped)


def fake_quantize_kernel(kernel):
    """Rounds weights `(..., channels)` to 255 levels for each channel, with zero in the middle.

    The gradient is that of the weights themselves (straight-through). The largest weight of each
    channel is a level, so that rounding again changes nothing.
    """
    step = kernel_steps(kernel)
    return _straight_through(ops.round(kernel / step) * step, kernel)


def kernel_steps(kernel):
    """Returns the steps between the levels of weights `(..., channels)`, one for each channel."""
    largest = ops.max(ops.abs(kernel), axis=tuple(range(len(kernel.shape) - 1)))
    # A channel of zeros stays one.
    return ops.where(largest > 0, largest, ops.ones_like(largest)) / _KERNEL_STEPS


def nudged(low, high):
    """Returns the step between the levels of a range, and its ends with zero as a level."""
    step = (high - low) / _STEPS
    zero = ops.clip(ops.floor(0.5 - low / step), 0, _STEPS)
    return step, -zero * step, (_STEPS - zero) * step


def _straight_through(value, source):
    """Returns `value` to the last bit, with the gradient of `source`."""
    return ops.stop_gradient(value) + (source - ops.stop_gradient(source))


@keras.saving.register_keras_serializable(PACKAGE)
class FakeQuantization(keras.layers.Layer):
    """Rounds numbers to the 256 levels of a range that is learned, or given.

    Args:
        low: Lower end, at most 0; None has it learned.
        high: Upper end, above 0; None has it learned.

    Input and output shape: `(batch, ...)`.
    """

    def __init__(self, low=None, high=None, **kwargs):
        super().__init__(**kwargs)
        self.low = None if low is None else float(low)
        self.high = None if high is None else float(high)
        self.minimum = self.maximum = None

    def build(self, input_shape):
        if self.low is None:
            self.minimum = self._add_end("minimum", -START)
        if self.high is None:
            self.maximum = self._add_end("maximum", START)

    def _add_end(self, name, start):
        initializer = keras.initializers.Constant(start)
        return self.add_weight(shape=(), initializer=initializer, autocast=False, name=name)

    def ends(self):
        """Returns lower and upper end; the range contains zero whatever was learned."""
        low, high = self.low, self.high
        # An end that training took too far keeps its gradient, and can return.
        if self.minimum is not None:
            low = _straight_through(ops.minimum(self.minimum, 0.0), self.minimum)
        if self.maximum is not None:
            high = _straight_through(ops.maximum(self.maximum, _LEAST), self.maximum)
        return low, high

    def start_at(self, low, high):
        """Sets the ends that are learned."""
        for end, value in ((self.minimum, low), (self.maximum, high)):
            if end is not None:
                end.assign(value)

    def call(self, inputs):
        return ops.cast(fake_quantize(inputs, *self.ends()), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "low": self.low, "high": self.high}


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedConv2D(Remembering, keras.layers.Conv2D):
    """A convolution with weights in 8 bits, rounded at every step; `kernel` has them unrounded.

    Takes the arguments of `keras.layers.Conv2D`.
    """

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, fake_quantize_kernel(kernel))


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedDense(keras.layers.Dense):
    """A dense layer with weights in 8 bits, rounded at every step; `kernel` has them unrounded.

    Takes the arguments of `keras.layers.Dense`.
    """

    def call(self, inputs, training=None):
        outputs = ops.matmul(inputs, fake_quantize_kernel(self.kernel))
        outputs = outputs if self.bias is None else ops.add(outputs, self.bias)
        return self.activation(outputs)


@keras.saving.register_keras_serializable(PACKAGE)
class PixelScaling(keras.layers.Rescaling):
    """Standardizes pixels by a 1x1 convolution with constants, which integers have as one step.

    Args:
        scale: Nested lists `(channels, channels)`: what a channel of the images adds to one of the
            outputs.
        offset: List `(channels,)` that is added.

    Input and output shape: `(batch, H, W, channels)`.
    """

    def call(self, inputs):
        scale, offset = (ops.convert_to_tensor(v, "float32") for v in (self.scale, self.offset))
        pixels = ops.cast(inputs, "float32")
        return ops.conv(pixels, scale[None, None], data_format="channels_last") + offset


def is_quantized(model: keras.Model) -> bool:
    """Returns whether a model is one of quantization-aware training."""
    return any(isinstance(layer, FakeQuantization) for layer in getattr(model, "layers", ()))
