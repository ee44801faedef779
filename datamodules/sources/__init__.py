"""Sources: one file per dataset, each reading its own layout as records."""

from datamodules.sources.base import Loaded, PhraseSource, Source
from datamodules.sources.chexpert import CheXpert
from datamodules.sources.ct_rate import CTRATE
from datamodules.sources.deep_lesion import DeepLesion
from datamodules.sources.five_by_200 import CheXpert5x200
from datamodules.sources.image_labels import ImageLabels
from datamodules.sources.imagenome import ChestImaGenome
from datamodules.sources.joined import JoinedSources
from datamodules.sources.merlin import Merlin
from datamodules.sources.mimic_cxr import MIMICCXR
from datamodules.sources.ms_cxr import MSCXR
from datamodules.sources.openi import OpenI
from datamodules.sources.padchest import PadChest
from datamodules.sources.padchest_gr import PadChestGR
from datamodules.sources.rad_chestct import RadChestCT
from datamodules.sources.rad_genome import RadGenomeChestCT
from datamodules.sources.report_table import ReportTable
from datamodules.sources.reporting import ReportSource
from datamodules.sources.rex_grounding import ReXGroundingCT
from datamodules.sources.rsna import RSNAPneumonia
from datamodules.sources.table import PhraseTable
from datamodules.sources.total_segmentator import TotalSegmentator
from datamodules.sources.vindr import VinDrCXR
from datamodules.sources.volume_table import VolumeTable
from datamodules.sources.volumes import VolumeSource

__all__ = [
    "CTRATE",
    "MIMICCXR",
    "MSCXR",
    "CheXpert",
    "CheXpert5x200",
    "ChestImaGenome",
    "DeepLesion",
    "ImageLabels",
    "JoinedSources",
    "Loaded",
    "Merlin",
    "OpenI",
    "PadChest",
    "PadChestGR",
    "PhraseSource",
    "PhraseTable",
    "RSNAPneumonia",
    "RadChestCT",
    "RadGenomeChestCT",
    "ReXGroundingCT",
    "ReportSource",
    "ReportTable",
    "Source",
    "TotalSegmentator",
    "VinDrCXR",
    "VolumeSource",
    "VolumeTable",
]
