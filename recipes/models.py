"""Lists the networks, as `keras-resnet models` does.

    python recipes/models.py 'resnet50*'

--count counts all networks anew, which takes about two minutes; a new entry of the table needs it.
"""

import keras_resnet_command  # noqa: F401
from keras_resnet.cli import models, run

if __name__ == "__main__":
    run(models.main)
