"""Adds up the scores of the crops of images, to an evaluation of them. Needs TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_resnet.data import ImageDataset
from keras_resnet.evaluation.multi_label import MultiLabelEvaluation
from keras_resnet.evaluation.results import TOP, Evaluation


class Tally:
    """Adds up the scores of the crops of each image, and keeps the ranking by their mean."""

    def __init__(self, keep_outputs: bool) -> None:
        self.done = 0
        self._keep = keep_outputs
        # Label, best classes, best score and, if kept, all scores of each image.
        self.ranked: dict[int, tuple[int, np.ndarray, float, np.ndarray | None]] = {}
        # Label, number of crops, number of these still to come, and the sum of the others.
        self._open: dict[int, list] = {}

    def readable(self, images: Iterable[tuple]) -> Iterator[tuple[int, Sequence[np.ndarray]]]:
        """Yields the number and the crops of every image that has a weight."""
        for number, (stacks, label, weight) in enumerate(images):
            if not weight:
                self.done += 1
                continue
            crops = sum(len(stack) for stack in stacks)
            self._open[number] = [label, crops, crops, 0.0]
            yield number, stacks

    def add(self, numbers: Sequence[int], scores: np.ndarray) -> None:
        """Adds the scores `(crops, classes)` of crops of the images `numbers`."""
        for number, row in zip(numbers, scores, strict=True):
            image = self._open[number]
            image[2] -= 1
            image[3] = image[3] + row
            if image[2] == 0:
                label, crops, _, summed = self._open.pop(number)
                self.rank(number, label, summed / crops)

    def rank(self, number: int, label: Any, mean: np.ndarray) -> None:
        """Keeps the ranking of an image by the mean of its scores."""
        best = np.argsort(-mean, kind="stable")[:TOP].astype(np.int32)
        self.ranked[number] = label, best, mean[best[0]], mean if self._keep else None
        self.done += 1

    def evaluation(
        self, dataset: ImageDataset, split: str, *, keep_outputs: bool = False, **how: Any
    ) -> Evaluation | MultiLabelEvaluation:
        """Returns the result for a split, of whose images all were added that can be read.

        `how` are attributes of `Evaluation` that say of what models and how it was measured.

        Raises:
            ValueError: If no image can be read.
        """
        if not self.ranked:
            raise ValueError(dataset.nothing_readable(split))
        indices = np.array(sorted(self.ranked))
        columns = zip(*(self.ranked[index] for index in indices), strict=True)
        labels, ranking, scores, outputs = map(np.array, columns)
        places = [dataset.locate(split, int(index)) for index in indices]
        measured: dict[str, Any] = {
            "dataset": dataset.name,
            "split": split,
            "class_names": dataset.class_names,
            "indices": indices,
            "labels": labels,
            "left_out": dataset.num_examples(split) - len(indices),
            "places": None if None in places else tuple(map(str, places)),
            **how,
        }
        if dataset.multi_label:
            return MultiLabelEvaluation(**measured, outputs=outputs)
        kept = outputs if keep_outputs else None
        return Evaluation(**measured, ranking=ranking, scores=scores, outputs=kept)
