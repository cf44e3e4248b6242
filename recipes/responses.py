"""Measures how strongly the layers of trained networks respond (Fig. 7 of arXiv 1512.03385).

    python recipes/responses.py --models runs/deepen/*/model.keras --workdir runs/responses

Draws the standard deviation of every 3x3 layer's response, after batch normalization and before the
nonlinearity or addition, in the order of the layers and in falling order, one line per model. In
the paper residual networks respond less than plain ones, and deeper ones less than shallower ones:
a residual block changes its input only a little.

Writes responses.png, .svg, .csv and .json to --workdir, and a page with all of it (report.html).
"""

import keras_resnet_command  # noqa: F401
from keras_resnet.cli import responses, run

if __name__ == "__main__":
    run(responses.main, description=__doc__)
