"""Sources: one file per dataset, each reading its own layout as records."""

from datamodules.sources.base import Loaded, PhraseSource
from datamodules.sources.ms_cxr import MSCXR
from datamodules.sources.padchest_gr import PadChestGR
from datamodules.sources.table import PhraseTable

__all__ = ["MSCXR", "Loaded", "PadChestGR", "PhraseSource", "PhraseTable"]
