"""Image-text alignment: images and reports as vectors of one space, where what is alike lies close."""

from tasks.alignment.model import AlignmentModel
from tasks.alignment.task import AlignmentTask
from tasks.alignment.zero_shot import ZeroShot

__all__ = ["AlignmentModel", "AlignmentTask", "ZeroShot"]
