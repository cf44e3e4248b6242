"""Finds the smallest file of 8-bit integers that a trained network becomes.

    python recipes/digits.py --workdir runs/digits
    python recipes/small.py --init runs/digits/model.keras --workdir runs/small

Slims the network step by step (arXiv 1708.06519, 1611.06440), trains each as integers (arXiv
1712.05877), and keeps the smallest LiteRT file that loses at most half a point on the validation
images. On ResNet-20 and the digits: two minutes on 2 cores. Writes small.tflite, table.csv,
shrinking.png and report.html.
"""

import keras_resnet_command  # noqa: F401
from keras_resnet.cli import run, studies

if __name__ == "__main__":
    run(studies.small, description=__doc__)
