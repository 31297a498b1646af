"""Codes of items: clustering of dense tokens, the code table, collisions and the tree."""

from storerec.codes.clusterer import Clusterer, ClustererConfig
from storerec.codes.collisions import POLICIES, Policy
from storerec.codes.fit_report import CodebookFit
from storerec.codes.report import CodeReport, PositionReport
from storerec.codes.table import CodeTable, CodeTableConfig
from storerec.codes.tree import DENSE_LIMIT, CodeTree

__all__ = [
    "DENSE_LIMIT",
    "POLICIES",
    "Clusterer",
    "ClustererConfig",
    "CodeReport",
    "CodeTable",
    "CodeTableConfig",
    "CodeTree",
    "CodebookFit",
    "Policy",
    "PositionReport",
]
