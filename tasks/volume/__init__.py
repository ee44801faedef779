"""3D CT: volumes aligned with reports, disease supervision by prompts, and snippets found along the patient."""

from tasks.volume.model import VolumeModel
from tasks.volume.task import VolumeTask

__all__ = ["VolumeModel", "VolumeTask"]
