"""ONNX files are channels first inside, name their sizes, and have the operations asked for."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import keras_resnet
from keras_resnet.export import export, load_exported
from keras_resnet.export.onnx_graphs import fuse_padded_pools
from tests.export.conftest import small_net
from tests.helpers import randomize

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")


def operations(path) -> Counter:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


RGB = {"input_shape": (32, 32, 3), "classes": 5, "include_preprocessing": True}
SMALL = {**RGB, "widths": (32, 64)}
NETS = {
    "option A": lambda: keras_resnet.CifarResNet(8, **RGB),
    "of any size": lambda: keras_resnet.ResNet(
        (1, 1), block="basic", **{**SMALL, "input_shape": (None, None, 3)}
    ),
    "pre-activation": lambda: keras_resnet.ResNet((1, 1), version="v2", **SMALL),
    "ResNet-D": lambda: keras_resnet.ResNet(
        (1, 1),
        **{**SMALL, "version": "v1.5", "shortcut_pool": True, "deep_stem": True},
        squeeze_excitation=4,
    ),
    "group normalization": lambda: keras_resnet.ResNet(
        (1, 1), block="basic", normalization="group", **SMALL
    ),
    "DenseNet": lambda: keras_resnet.DenseNet((2, 2), **RGB),
}


@pytest.mark.parametrize("net", [*NETS, pytest.param("ResNet18", marks=pytest.mark.slow)])
def test_images_are_transposed_once(tmp_path, net):
    """A transposition of a map between two layers costs as much as reading and writing it."""
    make = NETS.get(net, lambda: keras_resnet.ResNet18(**{**RGB, "input_shape": (64, 64, 3)}))
    model = randomize(make())
    written = export(model, tmp_path / "m.onnx", "onnx")
    assert written.difference < 1e-5
    graph = onnx.load(written.path).graph
    (transposition,) = (node for node in graph.node if node.op_type == "Transpose")
    before = {node.output[0] for node in graph.node if node.op_type in ("Sub", "Mul")}
    assert transposition.input[0] in {"images", *before}
    pools = {node.input[0] for node in graph.node if node.op_type == "MaxPool"}
    assert not pools & {node.output[0] for node in graph.node if node.op_type == "Pad"}


def test_sizes_have_names(tmp_path):
    for shape, named in (
        ((None, None, 1), ["batch", "height", "width", 1]),
        ((8, 8, 1), ["batch", 8, 8, 1]),
    ):
        path = tmp_path / f"{named[1]}.onnx"
        export(small_net((1,), input_shape=shape), path, "onnx")
        session = onnxruntime.InferenceSession(path)
        assert session.get_inputs()[0].shape == named
        assert session.get_outputs()[0].shape == ["batch", 10]


@pytest.mark.parametrize("opset", [10, 21])
def test_opset_is_an_argument(trained, test_images, tmp_path, opset):
    images = test_images[0][:5]
    written = export(trained, tmp_path / "m.onnx", "onnx", opset=opset)
    (entry,) = onnx.load(written.path).opset_import
    assert (entry.domain, entry.version) == ("", opset)
    np.testing.assert_allclose(load_exported(written.path)(images), trained(images), atol=1e-5)


@pytest.mark.parametrize("opset", [13, 21])
def test_int8_of_other_opsets(trained, test_images, tmp_path, opset):
    path = tmp_path / "m.onnx"
    calibration = [test_images[0][:100]]
    written = export(trained, path, "onnx", quantize="int8", calibration=calibration, opset=opset)
    (entry,) = onnx.load(path).opset_import
    assert (entry.domain, entry.version) == ("", opset)
    assert written.images == 100 and written.difference < 0.15


def test_int8_of_images_of_any_size(tmp_path):
    model = randomize(NETS["of any size"]())
    images = np.random.default_rng(0).uniform(0, 255, (20, 40, 32, 3)).astype("float32")
    path = tmp_path / "m.onnx"
    written = export(model, path, "onnx", quantize="int8", calibration=[images])
    assert written.images == 20 and written.agreement > 0.8
    others = np.random.default_rng(1).uniform(0, 255, (3, 56, 48, 3)).astype("float32")
    loaded = load_exported(path)
    assert loaded.image_shape == (None, None, 3)
    np.testing.assert_allclose(loaded(others), model(others), atol=0.05)


def test_int8_computes_in_8_bits(exported):
    """Kernels are integers in [-64, 64], and every convolution reads what was quantized."""
    graph = onnx.load(exported["onnx int8"].path).graph
    makers = {node.output[0]: node.op_type for node in graph.node}
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    quantized = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 7
    for node in convolutions:
        assert [makers[name] for name in node.input] == ["DequantizeLinear"] * 3
        kernel, scales, _ = (constants[name] for name in quantized[node.input[1]].input)
        assert kernel.dtype == "int8" and np.abs(kernel).max() == 64
        assert scales.shape == kernel.shape[:1]


def test_about_and_labels_are_in_the_metadata(net, tmp_path):
    about = {"description": "Dïgits.", "license": "MIT"}
    path = tmp_path / "m.onnx"
    export(net, path, "onnx", about=about, labels=list("0123456789"))
    meta = onnxruntime.InferenceSession(path).get_modelmeta()
    assert meta.description.startswith("Dïgits.\n")
    assert meta.custom_metadata_map.items() >= about.items()
    assert load_exported(path).labels[7] == "7"


@pytest.mark.parametrize(
    ("before", "fill", "opset", "fused"),
    [("Relu", 0, 17, 1), ("Relu", 0, 10, 1), ("Neg", 0, 17, 0), ("Relu", 1, 17, 0)],
)
def test_zeros_in_front_of_a_pool(before, fill, opset, fused):
    value, tensor = onnx.helper.make_tensor_value_info, onnx.numpy_helper.from_array
    pads, kernel = [0, 0, 1, 0, 0, 0, 0, 1], {"kernel_shape": [2, 2], "strides": [2, 2]}
    constants = {"pads": np.array(pads), "fill": np.float32(fill)} if opset > 10 else {}
    attributes = {} if opset > 10 else {"pads": pads, "value": float(fill)}
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node(before, ["x"], ["a"]),
            onnx.helper.make_node("Pad", ["a", *constants], ["b"], mode="constant", **attributes),
            onnx.helper.make_node("MaxPool", ["b"], ["y"], **kernel),
        ],
        "g",
        [value("x", onnx.TensorProto.FLOAT, [1, 2, 5, 5])],
        [value("y", onnx.TensorProto.FLOAT, [1, 2, 3, 3])],
        [tensor(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    images = np.random.default_rng(0).normal(size=(1, 2, 5, 5)).astype("float32")

    def outputs():
        onnx.checker.check_model(model)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        return session.run(None, {"x": images})[0]

    expected = outputs()
    fuse_padded_pools(model.graph)
    assert len(model.graph.node) == 3 - fused
    np.testing.assert_array_equal(outputs(), expected)
