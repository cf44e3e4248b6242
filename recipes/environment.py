"""Environment of the recipes. Import it first: TensorFlow reads it when it is imported."""

import os

# On some processors TensorFlow leaves its faster CPU kernels off.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Everywhere it reports what it did not find.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
