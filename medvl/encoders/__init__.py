"""Image and text encoders behind one contract (`medvl.encoders.base`)."""

from medvl.encoders.base import Features, ImageEncoder, TextEncoder
from medvl.encoders.tiny import TinyConv, TinyText, TinyViT

__all__ = ["Features", "ImageEncoder", "TextEncoder", "TinyConv", "TinyText", "TinyViT"]
