"""Data quality: what a careful engineer looks at before a model is trained on a data set."""

from dataset_builders.inspect.finding import FINDINGS, Finding, Section, Verdict
from dataset_builders.inspect.inspection import Inspection, check_finding_names, inspect_dataset, write_inspection
from dataset_builders.inspect.near_duplicates import NearPair, find_near_duplicates
from dataset_builders.inspect.thumbnails import grey_thumbnail

__all__ = [
    "FINDINGS",
    "Finding",
    "Inspection",
    "NearPair",
    "Section",
    "Verdict",
    "check_finding_names",
    "find_near_duplicates",
    "grey_thumbnail",
    "inspect_dataset",
    "write_inspection",
]
