"""What the package is called, what it needs, and which extras it offers."""

from __future__ import annotations

import runpy
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent

# Lower bounds are the oldest versions tried. Nothing is capped from above unless the line says what
# breaks.
CORE = [
    "tensorflow>=2.21",
    "keras>=3.15",
    "numpy>=2.0",
    "filelock>=3.16",
]

# Training on the embedded data, with plots and a progress bar.
TRAIN = [
    "scikit-learn>=1.5",  # the handwritten digits ship inside it
    "matplotlib>=3.9",
    "rich>=13.7",
    "pillow>=10.3",
]

DATASETS = [
    "tensorflow-datasets>=4.9.10",
    "importlib_resources>=6.4",  # `download_and_prepare` imports it, tensorflow-datasets forgets it
]

HUB = [
    "tensorflow-hub>=0.16.1",
    "tf_keras>=2.21",  # `hub.KerasLayer` is a layer of Keras 2, which TensorFlow no longer contains
    "setuptools<82",  # tensorflow_hub imports pkg_resources, which setuptools 82 removed
]

TUNER = [
    "keras-tuner>=1.4.8",
    "tensorboard>=2.21",  # imported at `search`, but not asked for; older ones need pkg_resources
    "scipy>=1.13",  # this and the next for BayesianOptimization: not asked for either
    "scikit-learn>=1.5",
]

EXPORT = [
    "tf2onnx>=1.17",
    "onnx>=1.17",
    "onnxruntime>=1.20",
    "ai-edge-litert>=2.0",  # the LiteRT interpreter; the converter is TensorFlow's own
]

# Published weights, and files of PyTorch's.
WEIGHTS = [
    "safetensors>=0.5",
    "huggingface_hub>=0.30",
]

# NVIDIA libraries beside TensorFlow, Linux only.
GPU = [
    "tensorflow[and-cuda]>=2.21",
    "nvidia-ml-py>=12.535",  # the energy that a GPU has used
]

TEST = [
    "pytest>=9.0",
    "pytest-xdist>=3.8",
    "ruff==0.17.*",  # a minor release may change what the formatter accepts
    "jax>=0.10",  # builders, layers and analysis are tested on this backend too (the CPU wheel)
    *TRAIN,
    *DATASETS,
    *HUB,  # the modules written here are loaded by tensorflow_hub itself
    *WEIGHTS,
    *EXPORT,  # what is written is run
    *TUNER,  # with tensorboard, which gets the same scalars as the tables
]

# Everything for users. Not `gpu`, which is gigabytes and Linux only, and not `test`.
ALL = [*TRAIN, *DATASETS, *HUB, *TUNER, *EXPORT, *WEIGHTS]

setup(
    name="keras-deep-residual",
    version=runpy.run_path(str(ROOT / "keras_resnet" / "version.py"))["__version__"],
    description="Deep residual learning (He et al., 2015) for Keras 3 and TensorFlow",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The keras_resnet authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["keras_resnet", "keras_resnet.*"]),
    package_data={"keras_resnet": ["py.typed", "models/sizes.csv"]},
    install_requires=CORE,
    extras_require={
        "train": TRAIN,
        "datasets": DATASETS,
        "hub": HUB,
        "tuner": TUNER,
        "export": EXPORT,
        "weights": WEIGHTS,
        "gpu": GPU,
        "test": TEST,
        "all": ALL,
    },
)
