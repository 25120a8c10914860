"""assay: calibrated reward models, and policies, from little, noisy and graded preference feedback."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("assay")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"
