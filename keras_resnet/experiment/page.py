"""The report of a run, an evaluation, a study or a search: one HTML page that needs nothing else.

Pictures, styles and the few lines of script are inside of it, and it loads nothing from elsewhere.
Needs TensorFlow and, for what is written, Jinja2 (`pip install keras-deep-residual[train]`).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_resnet.data import ImageDataset
from keras_resnet.data.check import DataReport
from keras_resnet.evaluation import Evaluation, LabelCandidate, MultiLabelEvaluation, evaluate
from keras_resnet.experiment import sections
from keras_resnet.experiment.data_summary import data_section
from keras_resnet.experiment.evaluation_files import write_evaluation
from keras_resnet.experiment.headline import headline_figures
from keras_resnet.experiment.settings import Experiment, Optimization
from keras_resnet.experiment.workdir import CONFIG, read_object
from keras_resnet.utils import checks
from keras_resnet.utils.escapes import visible
from keras_resnet.utils.files import write_text

logger = logging.getLogger(__name__)

REPORT = "report.html"


def require_jinja() -> Any:
    """Returns Jinja2, or raises an ImportError that says what to install."""
    return checks.import_extra("jinja2", "Reports", "train")


def _defaults_beside(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the default of each setting, of `decay` what goes with the optimizer."""
    defaults = Experiment().flat()
    if settings.get("decay"):  # as config.json has it
        optimizer = settings.get("optimizer", defaults["optimizer"])
        defaults["decay"] = Optimization(optimizer=optimizer).kind_of_decay
    return defaults


def write_report(
    workdir: str | os.PathLike,
    *,
    title: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    model: keras.Model | None = None,
    dataset: ImageDataset | None = None,
    result: Evaluation | MultiLabelEvaluation | None = None,
    check: DataReport | None = None,
    wrong_labels: Sequence[LabelCandidate] = (),
    settings: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Path:
    """Writes report.html from what a folder of results holds, and from what else is given.

    The folder may be that of a run, an evaluation, a study, a search or a comparison, also of an
    earlier version: what it does not hold is left out.

    Args:
        workdir: The folder.
        title: Title of the page; by default the folder's name.
        metrics: Content of metrics.json, where that is not written yet, or command and versions.
        model: The trained model, for class activation maps.
        dataset: The images, for the number in each class, mistakes and, with the settings of a run,
            a training batch.
        result: What the model predicts for a split of `dataset`.
        check: Faults found in the data.
        wrong_labels: Images whose label is likely wrong.
        settings: Settings; by default those that the folder holds of a run, study or search.
        defaults: Default of each setting; by default those of an experiment.

    Returns:
        The path of the page.

    Raises:
        ValueError: If a file of the folder is damaged.
        ImportError: If Jinja2 is not installed.
    """
    jinja = require_jinja()
    workdir = Path(workdir)
    ranked = result if isinstance(result, Evaluation) else None
    if metrics is None:
        path = workdir / "metrics.json"
        metrics = read_object(path) if path.exists() else {}
    settings = _settings_of(workdir) if settings is None else settings
    defaults = _defaults_beside(settings) if defaults is None else defaults

    parts = [
        sections.training_section(workdir),
        sections.comparison_section(workdir),
        sections.responses_section(workdir),
        sections.classes_section(workdir, result),
        sections.mistakes_section(ranked, dataset, model),
        data_section(dataset, check, wrong_labels, settings),
        sections.settings_section(settings, defaults),
        sections.cost_section(workdir, metrics, result),
        sections.environment_section(metrics),
    ]
    environment = jinja.Environment(
        loader=jinja.PackageLoader("keras_resnet.experiment", "."),
        autoescape=True,
        undefined=jinja.StrictUndefined,
        # Of the text of others; what a macro returns is markup, and no `str` itself.
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(REPORT).render(
        title=title or workdir.resolve().name,
        written=time.strftime("%Y-%m-%d %H:%M"),
        headline=headline_figures(metrics, settings),
        sections=[section for section in parts if any(section[1:])],
    )
    write_text(workdir / REPORT, page)
    return workdir / REPORT


def _settings_of(workdir: Path) -> Mapping[str, Any]:
    """Returns the settings of the run, search or study that a folder holds; without one, none."""
    if (workdir / CONFIG).exists():
        return read_object(workdir / CONFIG)
    if (workdir / "search.json").exists():
        held = read_object(workdir / "search.json")
        return {**held.pop("space", {}), **held}
    if (workdir / "table.json").exists():
        return read_object(workdir / "table.json").get("settings", {})
    return {}


def report_run(
    experiment: Experiment,
    model: keras.Model,
    dataset: ImageDataset,
    metrics: Mapping[str, Any],
    title: str,
    result: Evaluation | MultiLabelEvaluation | None = None,
) -> None:
    """Writes what follows from the predicted class of every image of the last split.

    Writes what `write_evaluation` does, and report.html. A model that `evaluate` does not take,
    such as one around a Hub module, has a page without them.

    Args:
        experiment: The settings; their `workdir` is the folder.
        model: The trained model.
        dataset: Its data.
        metrics: Content of metrics.json, which need not be written yet.
        title: Title of page and plots.
        result: The predictions, where they are known already.
    """
    workdir = experiment.output.workdir
    try:
        batch_size = experiment.optimization.batch_size
        if result is None:
            result = evaluate(model, dataset, split=metrics["split"], batch_size=batch_size)
    except ValueError as error:
        logger.info(f"{REPORT} is without classes and mistakes: {error}")
    else:
        metrics = {**metrics, **write_evaluation(result, workdir, title)}
    write_report(workdir, title=title, metrics=metrics, model=model, dataset=dataset, result=result)
