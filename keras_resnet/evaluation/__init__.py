"""Evaluation of trained models by the paper's test protocols; embeddings. Needs TensorFlow."""

from typing import TYPE_CHECKING

from keras_resnet.utils.deferral import deferred

if TYPE_CHECKING or not deferred(__name__):
    from keras_resnet.evaluation.calibration import (
        Calibration,
        calibrated,
        calibration_error,
        fit_calibration,
        fit_temperature,
        reliability,
    )
    from keras_resnet.evaluation.embeddings import Embeddings, embed
    from keras_resnet.evaluation.evaluator import Model, Progress, evaluate, open_model
    from keras_resnet.evaluation.labels import LabelCandidate, find_wrong_labels
    from keras_resnet.evaluation.multi_label import MultiLabelEvaluation
    from keras_resnet.evaluation.overview import DataOverview, overview_of
    from keras_resnet.evaluation.pairs import PairedComparison, compare_on_images
    from keras_resnet.evaluation.protocols import (
        MultiScale,
        Protocol,
        SingleCrop,
        TenCrop,
        make_protocol,
    )
    from keras_resnet.evaluation.results import Evaluation
    from keras_resnet.models.hub import load_model
    from keras_resnet.surgery.conversion import any_size, score_map, with_logits

__all__ = [
    "Calibration",
    "DataOverview",
    "Embeddings",
    "Evaluation",
    "LabelCandidate",
    "Model",
    "MultiLabelEvaluation",
    "MultiScale",
    "PairedComparison",
    "Progress",
    "Protocol",
    "SingleCrop",
    "TenCrop",
    "any_size",
    "calibrated",
    "calibration_error",
    "compare_on_images",
    "embed",
    "evaluate",
    "find_wrong_labels",
    "fit_calibration",
    "fit_temperature",
    "load_model",
    "make_protocol",
    "open_model",
    "overview_of",
    "reliability",
    "score_map",
    "with_logits",
]
