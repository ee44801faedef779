"""Image and text encoders behind one contract (`medvl.encoders.base`)."""

from medvl.encoders.base import Features, ImageEncoder, TextEncoder
from medvl.encoders.hub import rebuilding
from medvl.encoders.image2d import HFImageEncoder, TimmEncoder
from medvl.encoders.text import HFTextEncoder
from medvl.encoders.tiny import TinyConv, TinyText, TinyViT

__all__ = [
    "Features",
    "HFImageEncoder",
    "HFTextEncoder",
    "ImageEncoder",
    "TextEncoder",
    "TimmEncoder",
    "TinyConv",
    "TinyText",
    "TinyViT",
    "rebuilding",
]
