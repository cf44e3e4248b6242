r"""Measures trained models by the paper's test protocols (sections 3.4, 4.1 of arXiv 1512.03385).

    python recipes/evaluate.py --models runs/digits/model.keras --dataset digits \
        --protocol ten-crop --resize 9 --workdir runs/ten-crop

Writes top-1 and top-5 error with 95 % intervals and images/s (metrics.json), a table and a plot by
class (per_class), the confusion matrix as a table and a plot (confusion), and the prediction for
every image (predictions.csv). The digits take seconds. In general a protocol costs, in forward
passes of the network's own image size: single-crop 1 an image, ten-crop 10, multi-scale about 18
(24 for photographs of 4:3, which are taken whole); all of them once per model.

Several --models are an ensemble. Probabilities are averaged over crops and models, as by the
authors' Caffe models; --average logits averages logits, as fb.resnet.torch does.

Top-1/top-5 error of the paper on the 50 000 validation images of ImageNet, in %:

    ten-crop      ResNet34 (B) 24.52/7.46, ResNet50 22.85/6.71, ResNet101 21.75/6.05,
                  ResNet152 21.43/5.71; plain-34 28.54/10.02
    multi-scale   ResNet34 (B) 21.84/5.71, ResNet50 20.74/5.25, ResNet101 19.87/4.60,
                  ResNet152 19.38/4.49; an ensemble of six 3.57 top-5 on the test images

On CIFAR-10 the paper tests a single crop of an image (single-crop), top-1 error in %: ResNet20
8.75, ResNet56 6.97, ResNet110 6.43.
"""

import keras_resnet_command  # noqa: F401
from keras_resnet.cli import evaluate, run

if __name__ == "__main__":
    run(evaluate.main, description=__doc__)
