r"""Compares the shortcut options A, B and C (section 4.1 of arXiv 1512.03385, Table 3).

    python recipes/shortcuts.py --workdir runs/shortcuts

ResNet20 on scikit-learn's handwritten digits with each option, three seeds each: accuracy,
parameters, multiply-adds and training time side by side. In the paper, on ImageNet with ResNet34
and 10 crops, the top-1 error is 25.03 % with A, 24.52 with B and 24.19 with C: small differences,
so projections are not what cures the degradation. That comparison:

    python recipes/shortcuts.py --dataset imagenet2012 --data-dir DIR --model ResNet34 --gpus 8 \
        --schedule plateau --warmup none --validation-split validation --batch-size 256 --epochs 120
"""

import keras_resnet_command  # noqa: F401
from keras_resnet.cli import run, studies

if __name__ == "__main__":
    run(studies.shortcuts, description=__doc__)
