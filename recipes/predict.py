"""Classifies image files by a trained model, as `keras-resnet predict` does.

python recipes/predict.py runs/digits/model.keras pictures/ photo.jpg --top 3
"""

import keras_resnet_command  # noqa: F401
from keras_resnet.cli import predict, run

if __name__ == "__main__":
    run(predict.main)
