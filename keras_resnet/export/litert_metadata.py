"""Metadata of LiteRT files that Android's Task Library, ML Kit and MediaPipe read.

It is a FlatBuffer beside the model's own, after the public schema `metadata_schema.fbs` of
tensorflow/tflite-support, version 1.1.0. The generated code comes with packages that are old or
large, and few tables are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flatbuffers  # TensorFlow needs it.
import numpy as np

# Name of the entry that readers look for.
ENTRY = "TFLITE_METADATA"
# Sentences of the caller's about the model.
ABOUT = ("description", "version", "author", "license")

_IDENTIFIER = b"M001"
# The first version of the schema that has all that is written here.
_PARSER = "1.0.0"
# Fields by their numbers in the schema; a union has two, its type and its table.
_FIELDS = {
    table: names.split()
    for table, names in {
        "ModelMetadata": "name description version subgraph_metadata author license "
        "associated_files min_parser_version",
        "SubGraphMetadata": "name description input_tensor_metadata output_tensor_metadata",
        "TensorMetadata": "name description dimension_names content process_units stats "
        "associated_files",
        "Content": "content_properties_type content_properties",
        "FeatureProperties": "",
        "ImageProperties": "color_space default_size",
        "ImageSize": "width height",
        "ProcessUnit": "options_type options",
        "NormalizationOptions": "mean std",
        "ScoreThresholdingOptions": "global_score_threshold",
        "Stats": "max min",
        "AssociatedFile": "name description type",
    }.items()
}
_FEATURES, _IMAGE = np.uint8(1), np.uint8(2)  # members of the union ContentProperties
_NORMALIZATION, _THRESHOLDING = np.uint8(1), np.uint8(3)  # of ProcessUnitOptions
_COLORS = {3: ("RGB", np.int8(1)), 1: ("grayscale", np.int8(2))}
_AXIS_LABELS = np.int8(2)
_PREPEND = {
    np.int8: flatbuffers.Builder.PrependInt8Slot,
    np.uint8: flatbuffers.Builder.PrependUint8Slot,
    np.uint32: flatbuffers.Builder.PrependUint32Slot,
    np.float32: flatbuffers.Builder.PrependFloat32Slot,
}

_Table = dict[int, Any]


def classifier_metadata(
    name: str,
    image_shape: tuple[int, int, int],
    output: str,
    *,
    io_dtype: str = "float32",
    labels_file: str | None = None,
    about: Mapping[str, str] | None = None,
    threshold: float | None = None,
) -> bytes:
    """Returns the metadata of a model of one image and one output.

    Args:
        name: Name of the model.
        image_shape: `(H, W, C)` of its images in [0, 255].
        output: Name of its output.
        io_dtype: "float32", "uint8" or "int8". Floats are said to be normalized by mean 0 and
            deviation 1, which readers want to be told; integers are the gray levels themselves.
        labels_file: Name of the file behind the model with the names of the classes.
        about: Values of `ABOUT`.
        threshold: Probability below which readers are to leave a class out; of an image that shows
            none of the classes they give none.
    """
    height, width, channels = image_shape
    color, color_space = _COLORS.get(channels, (f"{channels} channels", np.int8(0)))
    what = f"{color} in [0, 255], {width} x {height} pixels"
    floats = io_dtype == "float32"
    normalization = _table("NormalizationOptions", mean=_floats(0), std=_floats(1))
    size = _table("ImageSize", width=np.uint32(width), height=np.uint32(height))
    images = _table(
        "TensorMetadata",
        name="images",
        description=f"Image, {what}.",
        content=_table(
            "Content",
            content_properties_type=_IMAGE,
            content_properties=_table(
                "ImageProperties", color_space=color_space, default_size=size
            ),
        ),
        process_units=[_table("ProcessUnit", options_type=_NORMALIZATION, options=normalization)]
        if floats
        else None,
        stats=_table("Stats", max=_floats(255), min=_floats(0)),
    )
    bounded = output == "probabilities"
    thresholding = None
    if bounded and threshold is not None:
        limit = _table("ScoreThresholdingOptions", global_score_threshold=np.float32(threshold))
        thresholding = [_table("ProcessUnit", options_type=_THRESHOLDING, options=limit)]
    scores = _table(
        "TensorMetadata",
        name=output,
        description=f"{output.capitalize()} of the image.",
        content=_table(
            "Content",
            content_properties_type=_FEATURES,
            content_properties=_table("FeatureProperties"),
        ),
        process_units=thresholding,
        stats=_table("Stats", max=_floats(1), min=_floats(0)) if bounded else None,
        associated_files=labels_file
        and [
            _table(
                "AssociatedFile",
                name=labels_file,
                description="Names of the classes, in the order of the output.",
                type=_AXIS_LABELS,
            )
        ],
    )
    graph = _table(
        "SubGraphMetadata", input_tensor_metadata=[images], output_tensor_metadata=[scores]
    )
    description = f"Takes an image, {what}, and gives {output}."
    model = _table(
        "ModelMetadata",
        **{"name": name, "description": description, **(about or {})},
        subgraph_metadata=[graph],
        min_parser_version=_PARSER,
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(_write(builder, model), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def _table(kind: str, **values: Any) -> _Table:
    """Returns the values of a table by the numbers of its fields, without those that are None."""
    fields = _FIELDS[kind]
    return {fields.index(name): value for name, value in values.items() if value is not None}


def _floats(*values: float) -> np.ndarray:
    return np.array(values, "float32")


def _write(builder: flatbuffers.Builder, value: str | np.ndarray | list[_Table] | _Table) -> int:
    """Writes a text, vector or table, after what it refers to, and returns its place."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    if isinstance(value, list):
        places = [_write(builder, table) for table in value]
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()
    fields = {
        slot: field if isinstance(field, np.generic) else _write(builder, field)
        for slot, field in value.items()
    }
    builder.StartObject(max(fields, default=-1) + 1)
    for slot, field in fields.items():
        prepend = _PREPEND.get(type(field), flatbuffers.Builder.PrependUOffsetTRelativeSlot)
        prepend(builder, slot, field, 0)
    return builder.EndObject()
