"""Public benchmarks of reward models: how their files are read, and how scores become their published tables."""

from assay.evaluation.benchmarks.items import Item, Line, Scored
from assay.evaluation.benchmarks.known import BENCHMARKS, Benchmark

__all__ = ["BENCHMARKS", "Benchmark", "Item", "Line", "Scored"]
