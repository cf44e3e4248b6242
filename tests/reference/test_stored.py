"""The stored outputs are whole, belong to the weights drawn here, and can be made again."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest

from tests.helpers import refused

from . import cases, weights


@pytest.fixture(scope="module")
def stored():
    return cases.load()


def test_file_is_small():
    assert cases.STORED.stat().st_size < 300_000


def test_stored_from_this_seed_and_these_cases(stored):
    _, about = stored
    described = cases.INFERENCE | cases.TRAINING
    expected = {name: dataclasses.asdict(case) for name, case in described.items()}
    assert about["seed"] == weights.SEED
    assert about["intervals"] == json.loads(json.dumps(weights.INTERVALS))
    assert about["cases"] == json.loads(json.dumps(expected))
    assert about["torch"] and about["numpy"]


def test_draws_are_those_of_the_file(stored):
    arrays, _ = stored
    probe = arrays["probe"]
    np.testing.assert_array_equal(weights.draw("probe/kernel", probe.shape, "kernel"), probe)


def test_every_array_is_finite_and_of_its_shape(stored):
    arrays, about = stored
    shapes = {"probe": (3, 4)}
    stages = len(cases.SUMMARY) + cases.ELEMENTS
    for name, case in cases.INFERENCE.items():
        number = 4 if case.family == "imagenet" else 3
        shapes[f"{name}/logits"] = (case.images[0], case.classes)
        shapes[f"{name}/stages"] = (number, stages)
        assert len(about["stages"][name]) == number
    for name, case in cases.TRAINING.items():
        shapes[f"{name}/logits"] = (case.images[0], case.classes)
        shapes[f"{name}/loss"] = ()
        gradients = {key: arrays[f"{name}/gradient/{key}"].shape for key in cases.GRADIENTS[name]}
        shapes |= {f"{name}/gradient/{key}": shape for key, shape in gradients.items()}
        moving = [key for key in arrays if key.startswith(f"{name}/") and "/moving_" in key]
        # One normalization for every convolution on the main path, and for each projection.
        layers = case.depth - 1 + (2 if case.shortcut == "B" else 0)
        assert len(moving) == 2 * layers
        shapes |= {key: (arrays[key].size,) for key in moving}
    assert {key: value.shape for key, value in arrays.items()} == shapes
    for key, value in arrays.items():
        assert value.dtype == np.float32, key
        assert np.isfinite(value).all(), key


def test_every_variant_gives_other_numbers(stored):
    # Else an equal answer would not show that the right network was built.
    arrays, _ = stored
    pairs = itertools.combinations(cases.INFERENCE.items(), 2)
    same = [
        (one, two)
        for (one, first), (two, second) in pairs
        if (first.family, first.images) == (second.family, second.images)
    ]
    assert ("resnet50_v1_b", "resnet50_v1.5_b") in same
    for one, two in same:
        logits, others = arrays[f"{one}/logits"], arrays[f"{two}/logits"]
        assert np.abs(logits - others).max() > 1e-2 * np.abs(logits).max(), (one, two)


def test_gradients_do_not_hang_on_rounding(stored):
    _, about = stored
    assert set(about["margins"]) == set(cases.TRAINING)
    assert min(about["margins"].values()) > cases.MARGIN


def test_a_draw_depends_on_its_name_alone():
    first = weights.draw("a/kernel", (3, 3, 8, 16), "kernel")
    weights.draw("b/kernel", (3, 3, 8, 16), "kernel")
    np.testing.assert_array_equal(weights.draw("a/kernel", (3, 3, 8, 16), "kernel"), first)
    assert not np.array_equal(weights.draw("b/kernel", (3, 3, 8, 16), "kernel"), first)


def test_kernels_have_the_variance_of_he():
    kernel = weights.draw("a/kernel", (3, 3, 64, 64), "kernel")
    assert kernel.dtype == np.float32
    assert kernel.var() == pytest.approx(2 / (9 * 64), rel=0.02)


def test_unknown_kind_is_refused():
    with refused("`kind`", "'count'"):
        weights.draw("normalization/count", (), "count")


@pytest.mark.parametrize(
    ("parts", "last"),
    [
        # Blocks with an addition, a plain one, and two with pre-activation.
        ({"conv2_block1": "0_bn 2_bn 3_bn add", "conv2_block11": "2_bn add"}, "1_3_bn 11_2_bn"),
        ({"conv2_block1": "1_bn 2_bn"}, ""),
        ({"conv2_block1": "1_conv 1_bn 2_conv out"}, "1_1_bn"),
        ({"conv2_block2": "preact_bn 1_conv 1_bn 2_conv 2_bn 3_conv out"}, "2_2_bn"),
    ],
)
def test_last_normalization_of_a_branch(parts, last):
    names = {f"{block}_{part}" for block, text in parts.items() for part in text.split()}
    ends = {name for name in names if name.endswith("_bn")}
    ends = {name for name in ends if weights.ends_residual_branch(name, names)}
    assert ends == {f"conv2_block{end}" for end in last.split()}
    assert not weights.ends_residual_branch("conv1_bn", names | {"conv1_bn"})


@pytest.mark.torch
@pytest.mark.parametrize(
    "name", ["resnet18v2", "resnet20_b", "resnet50_v1.5_b_odd", "train_resnet20_b"]
)
def test_made_again(stored, name):
    pytest.importorskip("torch")
    from . import make_torch_outputs

    arrays, _ = stored
    if name in cases.TRAINING:
        again, _ = make_torch_outputs.train(name)
    else:
        again, _ = make_torch_outputs.infer(cases.INFERENCE[name])
    assert set(again) == {
        key.removeprefix(f"{name}/") for key in arrays if key.startswith(f"{name}/")
    }
    for key, value in again.items():
        expected = arrays[f"{name}/{key}"]
        atol = 1e-6 * np.abs(expected).max()
        np.testing.assert_allclose(value, expected, rtol=0, atol=atol, err_msg=key)
