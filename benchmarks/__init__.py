"""Timings of this package beside other libraries: `python -m benchmarks --help`."""

import os

# TensorFlow reports at its import what it did not find.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
