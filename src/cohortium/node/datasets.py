"""The datasets of a site: registered as drafts, confirmed by the steward, read as study tables.

A dataset in a folder is ``dictionary.yaml`` (the steward's), ``meta.json`` (the state: replacing it
is what registers or confirms), ``draft.parquet`` until it is confirmed and ``data.parquet`` after.
"""

from cohortium.node.folder import FolderDatasets
from cohortium.node.memory import MemoryDatasets
from cohortium.node.stored import Dataset, Datasets

__all__ = ["Dataset", "Datasets", "FolderDatasets", "MemoryDatasets"]
