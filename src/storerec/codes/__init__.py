"""Codes of items: clustering of dense tokens, the code table, collisions and the tree."""

from storerec.codes.clusterer import Clusterer, ClustererConfig
from storerec.codes.collisions import POLICIES, Policy
from storerec.codes.drawn import ArrayVectors, Drawn, Vectors
from storerec.codes.fit_report import CodebookFit
from storerec.codes.moments import Moments
from storerec.codes.report import CodeReport, PositionReport
from storerec.codes.sampling_error import PositionError, SamplingError
from storerec.codes.sums import ChunkSums, ClusterSums
from storerec.codes.table import CodeTable, CodeTableConfig
from storerec.codes.tree import DENSE_LIMIT, CodeTree

__all__ = [
    "DENSE_LIMIT",
    "POLICIES",
    "ArrayVectors",
    "ChunkSums",
    "ClusterSums",
    "Clusterer",
    "ClustererConfig",
    "CodeReport",
    "CodeTable",
    "CodeTableConfig",
    "CodeTree",
    "CodebookFit",
    "Drawn",
    "Moments",
    "Policy",
    "PositionError",
    "PositionReport",
    "SamplingError",
    "Vectors",
]
