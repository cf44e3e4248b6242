"""The package's version, in a module of its own: `setup.py` reads it without the package."""

__version__ = "0.1.0"
