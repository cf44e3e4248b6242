"""The `keras-resnet` command: a module a verb, flags of one meaning, errors in one line.

`keras_resnet_command`, which lies beside the package, has the table of the verbs.
"""

from keras_resnet.cli.flags import Arguments, parse, parse_experiment, run

__all__ = ["Arguments", "parse", "parse_experiment", "run"]
