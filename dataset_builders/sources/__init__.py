"""Readers of what users have: label lists, image folders and tables. All give the same rows."""

from dataset_builders.sources.entries import Entry
from dataset_builders.sources.reader import read_sources

__all__ = ["Entry", "read_sources"]
