"""The `keras-resnet` command: a module a verb, flags of one meaning, errors in one line.

`keras_resnet_command`, which lies beside the package, has the table of the verbs.
"""

from keras_resnet.cli.arguments import Arguments, parse, parse_experiment
from keras_resnet.cli.session import print_json, run

__all__ = ["Arguments", "parse", "parse_experiment", "print_json", "run"]
