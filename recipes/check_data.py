"""Lists the faults of a folder of images, as `keras-resnet check-data` does.

python recipes/check_data.py DIR
"""

import keras_resnet_command  # noqa: F401
from keras_resnet.cli import check_data, run

if __name__ == "__main__":
    run(check_data.main)
