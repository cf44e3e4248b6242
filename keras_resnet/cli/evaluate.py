"""Measures trained models of any format by the paper's test protocols.

    keras-resnet evaluate --models model.keras --dataset folder --data-dir DIR --protocol ten-crop

A model is a .keras file, an exported one (Hub module, SavedModel, .tflite, .onnx), hf://owner/name,
or published weights: ResNet50, timm/resnet50.a1_in1k. Several are an ensemble: probabilities are
averaged over crops and models, or with --average logits the logits. Outputs are matched to classes
of the data set by name: those that the model remembers, or that labels.txt beside it has.

Writes top-1 and top-5 error with 95 % intervals, calibration error and images/s (metrics.json), a
table and a plot by class (per_class), the confusion matrix (confusion) and accuracy by confidence
(reliability) as tables and plots, and the prediction for every image (predictions). Where images
can have several labels, the figures are mean average precision, F1 and the share of images of which
all labels are right, without a confusion matrix. report.html shows all of it, and the worst
mistakes.

--against MODEL ... compares with another model, or ensemble, on the same files by McNemar's test;
it may be of another image size, and reads the files as its own preprocessing says.
--calibrate OUT.keras fits a temperature, and a threshold for images of none of the classes, to
these images, which should be those of --split validation, and writes the model with both.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

from keras_resnet import analysis, data, evaluation, experiment, export, surgery, weights
from keras_resnet.cli.arguments import Arguments, options_of, parse
from keras_resnet.cli.session import print_json
from keras_resnet.experiment.workdir import expect_folder
from keras_resnet.utils import checks
from keras_resnet.utils.checks import checked_size
from keras_resnet.utils.escapes import visible
from keras_resnet.utils.files import write_json
from keras_resnet.utils.processes import command_line
from keras_resnet.utils.tables import require_pyarrow


@dataclasses.dataclass(frozen=True)
class Evaluate(Arguments):
    """Arguments of `keras-resnet evaluate`.

    Attributes:
        models: Trained models: .keras files, exported models, or names of published weights.
        dataset: Name of the data set.
        data_dir: Folder of its files, or the CSV file; by default the data set's own.
        val_split: Share of the images that is the validation split, as in training; by default the
            data set's own.
        test_split: Share of the images that is the test split, likewise; by default the data set's
            own.
        image_size: Side of the images in pixels, or HEIGHTxWIDTH; by default the first
            model's.
        max_bad_files: Largest number of unreadable images, which are skipped with a warning each;
            by default the data set's own.
        split: train, validation or test; by default the last one that the data set has.
        protocol: Test protocol: how images are resized, cropped and flipped.
        resize: Shorter side, in pixels, that an image is resized to before crops are taken; by
            default what the weights want.
        scales: Shorter sides, in pixels, for multi-scale; by default the paper's.
        flip: Whether flipped images are averaged too, for multi-scale; by default they are not.
        average: Outputs that are averaged over crops and models.
        batch_size: Crops per batch.
        against: Trained models to compare with on the same images.
        calibrate: .keras file to write the model to, calibrated on these images; by default none is
            written.
        kept: Share of the correctly classified images that the threshold of --calibrate keeps.
        table: Format of the table of predictions.
        workdir: Folder that everything is written to.
        json: Print the content of metrics.json, as JSON.
    """

    models: tuple[str, ...]
    dataset: str = "digits"
    data_dir: str | None = None
    val_split: float | None = None
    test_split: float | None = None
    image_size: str | None = None
    max_bad_files: int | None = None
    split: str | None = None
    protocol: Literal["single-crop", "ten-crop", "multi-scale"] = "single-crop"
    resize: int | None = None
    scales: tuple[int, ...] | None = None
    flip: bool | None = None
    average: Literal["softmax", "logits"] = "softmax"
    batch_size: int = 128
    against: tuple[str, ...] = ()
    calibrate: Path | None = None
    kept: float = 0.95
    table: Literal["csv", "json", "parquet"] = "csv"
    workdir: str = "runs/evaluation"
    json: bool = False


def main(
    argv: Sequence[str] | None = None, description: str | None = __doc__, prog: str | None = None
) -> None:
    """Evaluates models, prints the errors, and writes tables and plots."""
    given = parse(Evaluate, argv, description, prog)

    workdir = expect_folder("workdir", given.workdir)
    if (workdir / "metrics.json").exists():
        raise ValueError(
            f"`workdir` must be a new folder, or one without results. Received: workdir={workdir}"
        )
    analysis.plots.require_matplotlib()
    experiment.page.require_jinja()
    if given.calibrate is not None:
        _expect_calibrable(given)
    checks.one_of("table", given.table, ("csv", "json", "parquet"))
    if given.table == "parquet":
        require_pyarrow()
    models, others = (
        [evaluation.open_model(path) for path in paths] for paths in (given.models, given.against)
    )
    if given.calibrate is not None:
        evaluation.calibration.expect_calibrable(cast(Any, models[0]), "calibrate")
    dataset = _load(given, models[0])
    theirs = _load(given, others[0]) if others else dataset
    if dataset.multi_label and (others or given.calibrate):
        raise ValueError(
            "`against` and `calibrate` are for images with one label each. "
            f"Received: dataset={given.dataset!r}"
        )
    if others:
        _expect_fit(given, others, dataset, theirs)
    result = _evaluate(given, models, given.models, dataset)
    title = f"{' + '.join(given.models)}: {result.split} images of {dataset.name}"
    lines = [str(result)]
    metrics = result.metrics() | experiment.evaluation_files.write_evaluation(
        result, workdir, title, given.table
    )
    if isinstance(result, evaluation.Evaluation) and others:
        other = cast(evaluation.Evaluation, _evaluate(given, others, given.against, theirs))
        pair = evaluation.compare_on_images(result, other)
        metrics["against"] = pair.row()
        lines.append(str(pair))
    metrics |= {"command": command_line(), "versions": experiment.card.versions()}
    failure: ValueError | OSError | None = None
    if given.calibrate is not None:
        try:
            measured = cast(evaluation.Evaluation, result)
            calibration = evaluation.fit_calibration(measured, given.kept)
            if calibration.doubt is not None:
                print(f"calibrate: {calibration.doubt}", file=sys.stderr)
            model = evaluation.calibrated(cast(Any, models[0]), calibration)
            weights.save_model(model, given.calibrate)
            metrics["calibration"] = dataclasses.asdict(calibration)
            lines.append(f"{given.calibrate}: {calibration}")
        except (ValueError, OSError) as error:  # All that was measured is told first.
            failure = error
    # Maps are those of one network.
    explained = (
        models[0] if len(models) == 1 and not isinstance(models[0], export.ExportedModel) else None
    )
    experiment.page.write_report(
        workdir, title=title, metrics=metrics, model=explained, dataset=dataset, result=result
    )
    write_json(workdir / "metrics.json", metrics)  # last: a folder that has it is done
    if given.json:
        print_json(metrics)
    else:
        print(*map(visible, lines), sep="\n")
        print(f"Everything is in {workdir}: begin with {experiment.page.REPORT} and metrics.json")
    if failure is not None:
        raise failure


def _load(given: Evaluate, model: evaluation.Model) -> data.ImageDataset:
    """Returns the data set with images as a model takes them."""
    options = options_of(given, "image_size", "max_bad_files", "val_split", "test_split")
    if given.image_size is not None:
        options["image_size"] = checked_size("image_size", given.image_size)
    known = data.option_names(given.dataset)
    own = {k: v for k, v in _images_of(model).items() if k in known}
    return data.load_dataset(given.dataset, given.data_dir, **own | options)


def _expect_fit(
    given: Evaluate,
    others: Sequence[evaluation.Model],
    dataset: data.ImageDataset,
    theirs: data.ImageDataset,
) -> None:
    """Raises a ValueError before the work where `against` cannot be compared on the same images."""
    for model, path in zip(others, given.against, strict=True):
        shape, images = _image_shape(model), theirs.image_shape
        if len(shape) != 3 or any(a not in (None, b) for a, b in zip(shape, images, strict=True)):
            raise ValueError(
                f"`against` must take the images of {theirs.name}, {images}, whose size is fixed, "
                "given by `image_size`, or that of its first model. "
                f"Received: against={path!r}, for images of shape {shape}"
            )
    first, second = ((one.class_names, one.sizes) for one in (dataset, theirs))
    if first != second:
        raise ValueError(
            "`against` must take the files of `models`, with as many channels. Received: "
            f"{dataset.sizes} images of {dataset.image_shape} and {theirs.sizes} of "
            f"{theirs.image_shape}"
        )


def _evaluate(
    given: Evaluate,
    models: Sequence[evaluation.Model],
    names: Sequence[str],
    dataset: data.ImageDataset,
) -> evaluation.Evaluation | evaluation.MultiLabelEvaluation:
    options = options_of(given, "resize", "scales", "flip")
    with evaluation.Progress() as progress:
        return evaluation.evaluate(
            models,
            dataset,
            evaluation.make_protocol(given.protocol, **options),
            split=given.split,
            average=given.average,
            batch_size=given.batch_size,
            names=names,
            keep_outputs=given.calibrate is not None,
            progress=progress,
        )


def _expect_calibrable(given: Evaluate) -> None:
    """Raises a ValueError before the work where its result could not be calibrated."""
    (path, *more), out = given.models, given.calibrate
    if more or Path(path).suffix != ".keras" or out is None or out.suffix != ".keras":
        raise ValueError(
            "`calibrate` must be a .keras file to write, for one model of a .keras file. "
            f"Received: calibrate={str(out)!r} with models={' '.join(given.models)}"
        )
    if out.exists():
        raise ValueError(f"`calibrate` must be a new file. Received: calibrate={str(out)!r}")
    if given.protocol != "single-crop" or given.resize is not None:
        raise ValueError(
            "`calibrate` must go with the single crop that the model predicts by, without `resize`."
            f" Received: protocol={given.protocol!r}, resize={given.resize}"
        )
    checks.fraction("kept", given.kept, one_allowed=True)


def _images_of(model: evaluation.Model) -> dict[str, Any]:
    """Returns options of a data set for the images that a model takes."""
    shape = _image_shape(model)
    exported = isinstance(model, export.ExportedModel)
    prepared = model.preprocessing if exported else surgery.preprocessing_of(model)
    options: dict[str, Any] = {}
    if None not in shape[:2]:
        options["image_size"] = checked_size("image_size", tuple(shape[:2]))
    elif prepared is not None and set(shape[:2]) == {None}:
        options["image_size"] = prepared.image_size
    if shape[2] is not None:
        options["channels"] = shape[2]
    if prepared is not None:
        options["bits"] = prepared.bits
    elif shape[2] in (1, 3):
        options["bits"] = 8  # as `predict` reads them
    return options


def _image_shape(model: evaluation.Model) -> tuple[int | None, ...]:
    """Returns height, width and channels of the images that a model takes."""
    return model.image_shape if isinstance(model, export.ExportedModel) else model.input_shape[1:]
