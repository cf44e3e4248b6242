"""Command lines: flags of one meaning everywhere, errors in one line."""

from keras_resnet.cli.flags import OF_A_TRAINED_NETWORK, LineParser, Parser, run

__all__ = ["OF_A_TRAINED_NETWORK", "LineParser", "Parser", "run"]
