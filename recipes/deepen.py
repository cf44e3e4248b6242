"""Deepens a trained net by identity blocks, and trains on (section 1 of arXiv 1512.03385).

    python recipes/deepen.py --workdir runs/deepen

ResNet20 on scikit-learn's handwritten digits for 12 epochs, deepened to ResNet56: the same outputs,
the same loss, and no jump when it trains on for 12 epochs more at a tenth of the learning rate.
Beside it ResNet56 from scratch for 24 epochs. The plain nets, whose added blocks are identities by
construction:

    python recipes/deepen.py --shortcut none --workdir runs/deepen-plain
"""

import keras_resnet_command  # noqa: F401
from keras_resnet.cli import run, studies

if __name__ == "__main__":
    run(studies.deepening, description=__doc__)
