"""Image-text alignment: images and reports as vectors of one space, where what is alike lies close."""

from tasks.alignment.model import AlignmentModel
from tasks.alignment.task import AlignmentTask

__all__ = ["AlignmentModel", "AlignmentTask"]
