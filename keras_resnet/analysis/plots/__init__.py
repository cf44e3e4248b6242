"""Figures of measurements, each with the numbers behind it as CSV beside it.

`path` is that of the PNG, beside which SVG and CSV go; `title` is that of the figure.

Needs matplotlib (`pip install keras-deep-residual[train]`), and no display.
"""

from typing import TYPE_CHECKING

from keras_resnet.utils.deferral import deferred

if TYPE_CHECKING or not deferred(__name__):
    from keras_resnet.analysis.plots.blocks import block_diagrams
    from keras_resnet.analysis.plots.comparison import (
        accuracy_against_operations,
        cost_against_batch,
    )
    from keras_resnet.analysis.plots.confusion import class_errors, confusion_matrix
    from keras_resnet.analysis.plots.curves import (
        deepening,
        error_curves,
        final_errors,
        learning_curve,
        range_test,
        responses,
    )
    from keras_resnet.analysis.plots.drawing import figure, require_matplotlib
    from keras_resnet.analysis.plots.reliability import reliability_diagram
    from keras_resnet.analysis.plots.reproduction import beside_the_paper
    from keras_resnet.analysis.plots.tradeoffs import error_against_operations
    from keras_resnet.analysis.plots.trials import search

if TYPE_CHECKING:  # A module that is an attribute, as `deferred` says.
    from keras_resnet.analysis.plots import forms as forms

__all__ = [
    "accuracy_against_operations",
    "beside_the_paper",
    "block_diagrams",
    "cost_against_batch",
    "class_errors",
    "confusion_matrix",
    "deepening",
    "error_against_operations",
    "error_curves",
    "figure",
    "final_errors",
    "learning_curve",
    "range_test",
    "reliability_diagram",
    "require_matplotlib",
    "responses",
    "search",
]
