"""The Keras networks give the numbers of the independent implementation, to 1e-4 relative.

Both have the weights that `weights.draw` gives the names of their layers. "Relative" is to the
largest absolute value of what is compared, since single elements may be next to zero.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

import keras_resnet

from . import cases, weights

TOLERANCE = 1e-4
# Of outputs, as README has it; the largest seen is 1.4e-6.
LOGITS = 1e-5
# Where Keras computes in float64, what is left is the rounding of the stored numbers to float32.
TOLERANCES = {"float32": TOLERANCE, "float64": 1e-6}


@pytest.fixture(scope="module")
def stored():
    return cases.load()


def build(case: cases.Case, **options) -> keras.Model:
    """Builds the named network of a case, ending in logits, with the drawn weights."""
    model = getattr(keras_resnet, case.builder)(
        weights=None,
        input_shape=case.images[1:],
        classes=case.classes,
        classifier_activation=None,
        shortcut=case.shortcut,
        version=case.version,
        **{**case.options, **options},
    )
    weights.fill_keras(model)
    return model


def drawn_images(case: cases.Case) -> np.ndarray:
    return weights.draw_images(case.images, case.batch).astype(keras.config.floatx())


def error(value, expected, scale=None) -> float:
    """The largest absolute difference, relative to `scale` or the largest expected value."""
    value = ops.convert_to_numpy(value).astype("float64")
    assert value.shape == expected.shape
    scale = np.abs(expected).max() if scale is None else scale
    return float(np.max(np.abs(value - expected) / scale))


# The deepest and widest, and those whose like is among the others.
SLOW = (
    *("resnet101_v1.5_b", "resnet152_v1.5_b", "resnet44_a", "resnet50_v1.5_b"),
    *("resnet101v2_odd", "resnext101_32x8d", "wideresnet50_2", "resnet164v2", "resnet18d"),
    *("resnext29_8x64d", "wideresnet16_8", "resnet20v2_a", "resnet50v2"),
)
INFERENCE = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in cases.INFERENCE
]


@pytest.mark.parametrize("name", INFERENCE)
def test_inference(stored, name):
    arrays, about = stored
    case = cases.INFERENCE[name]
    model = build(case)
    ends = [model.get_layer(end).output for end in about["stages"][name]]
    *stages, logits = keras.Model(model.input, [*ends, model.output])(
        drawn_images(case), training=False
    )
    for stage, expected in zip(stages, arrays[f"{name}/stages"], strict=True):
        summary = cases.summarize(ops.convert_to_numpy(stage).astype("float64"))
        maximum = expected[cases.SUMMARY.index("maximum")]
        assert error(summary, expected, scale=maximum) < TOLERANCE
    assert error(logits, arrays[f"{name}/logits"]) < LOGITS


@pytest.mark.parametrize("name", ["resnet50_v1.5_b_odd", "resnet20_c", "plainnet20"])
def test_inference_of_stacked_blocks(stored, name):
    arrays, _ = stored
    case = cases.INFERENCE[name]
    logits = build(case, stack_blocks=True)(drawn_images(case), training=False)
    assert error(logits, arrays[f"{name}/logits"]) < TOLERANCE


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="uses TensorFlow's gradients")
@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("options", [{}, {"stack_blocks": True}], ids=["unrolled", "stacked"])
@pytest.mark.parametrize("name", list(cases.TRAINING))
def test_training_step(stored, name, options, dtype):
    import tensorflow as tf

    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    arrays, _ = stored
    case = cases.TRAINING[name]
    model = build(case, **options)
    labels = weights.draw_labels(case.images[0], case.classes)
    with tf.GradientTape() as tape:
        logits = model(drawn_images(case), training=True)
        losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        loss = ops.mean(losses)
    assert keras.backend.standardize_dtype(logits.dtype) == dtype
    variables = weights.named_variables(model)
    sources = [variables[key][0].value for key in cases.GRADIENTS[name]]
    gradients = dict(zip(cases.GRADIENTS[name], tape.gradient(loss, sources), strict=True))

    found = {"logits": logits, "loss": loss}
    for key, (variable, index) in variables.items():
        kept = {f"gradient/{key}": gradients[key]} if key in gradients else {}
        if "/moving_" in key:
            kept[key] = variable
        found |= {k: value if index is None else value[index] for k, value in kept.items()}
    expected = {
        key.removeprefix(f"{name}/"): value
        for key, value in arrays.items()
        if key.startswith(f"{name}/")
    }
    assert set(found) == set(expected)
    for key, value in found.items():
        assert error(value, expected[key]) < TOLERANCES[dtype], key
