"""The error of an exported model that is wrong. Light to import: no Keras, no TensorFlow."""


class ExportMismatchError(RuntimeError):
    """An exported model does not compute what its original does."""
