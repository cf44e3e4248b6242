"""Evaluation of trained models by the paper's test protocols; embeddings. Needs TensorFlow."""

from keras_resnet.evaluation.embeddings import Embeddings, embed
from keras_resnet.evaluation.evaluator import Progress, evaluate
from keras_resnet.evaluation.labels import LabelCandidate, find_wrong_labels
from keras_resnet.evaluation.overview import DataOverview, overview_of
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
    "DataOverview",
    "Embeddings",
    "Evaluation",
    "LabelCandidate",
    "MultiScale",
    "Progress",
    "Protocol",
    "SingleCrop",
    "TenCrop",
    "any_size",
    "embed",
    "evaluate",
    "find_wrong_labels",
    "load_model",
    "make_protocol",
    "overview_of",
    "score_map",
    "with_logits",
]
