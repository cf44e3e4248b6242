"""`keras.applications.resnet_v2`: images in RGB, in [-1, 1].

Its networks are neither the paper's nor timm's: see version "v2-keras" of `ResNet`.
"""

from keras.applications.resnet_v2 import decode_predictions, preprocess_input

from keras_resnet.applications.builders import application
from keras_resnet.preprocessing import KERAS_TF
from keras_resnet.weights import PretrainedWeights

__all__ = ["ResNet50V2", "ResNet101V2", "ResNet152V2", "decode_predictions", "preprocess_input"]


# These stand here and not in `PRETRAINED`, whose networks `list_models` builds with the options of
# an entry of the table: they need `conv_bias`, which no entry has.
def _weights(depth: int, top1: float, top5: float, md5: str) -> PretrainedWeights:
    file = f"resnet{depth}v2_weights_tf_dim_ordering_tf_kernels.h5"
    return PretrainedWeights(
        name=f"keras/resnet{depth}v2",
        network=f"resnet{depth}_v2-keras",
        place=f"https://storage.googleapis.com/tensorflow/keras-applications/resnet/{file}",
        file=file,
        preprocessing=KERAS_TF,
        metrics={224: (top1, top5)},
        recipe="https://github.com/keras-team/keras-applications",
        license="MIT",
        md5=md5,
    )


_OPTIONS = {"version": "v2-keras", "conv_bias": True}

ResNet50V2 = application(
    "ResNet50V2", _weights(50, 76.0, 93.0, "3ef43a0b657b3be2300d5770ece849e0"), **_OPTIONS
)
ResNet101V2 = application(
    "ResNet101V2", _weights(101, 77.2, 93.8, "6343647c601c52e1368623803854d971"), **_OPTIONS
)
ResNet152V2 = application(
    "ResNet152V2", _weights(152, 78.0, 94.2, "a49b44d1979771252814e80f8ec446f9"), **_OPTIONS
)
