"""Compares what networks cost, and how accurate they are: ours, Keras's, and saved models.

    python recipes/compare.py --workdir runs/compare

Counts parameters, multiply-adds, activations and memory of each network for one image, layer by
layer, and measures time, memory and, where the machine counts it, energy of a forward pass and a
training step, each network and batch size in a subprocess: a minute or two each on 2 cores.
--no-measure leaves the measuring out and takes a minute in all. Weights are random; nothing is
downloaded.

Written are the figures comparison.png (accuracy against operations) and cost.png (time, memory and
energy against the batch size) with SVG and CSV beside them, comparison.json with all figures, and
layers/ with a CSV for each network. Accuracies are published ones, with their source in the table.
One's own: --accuracy ResNet50=0.75, or ResNet50=FILE with the metrics.json of a run.

Names: ResNet50, ResNet50_v1.5, ResNet34_A, PlainNet34, ... (this package), VGG16, MobileNetV2, ...
(keras.applications), keras.applications.ResNet50 where both have one, and paths of .keras files.
"""

import keras_resnet_command  # noqa: F401
from keras_resnet.cli import compare, run

if __name__ == "__main__":
    run(compare.main, description=__doc__)
