"""Image and text encoders behind one contract (`medvl.encoders.base`)."""

from medvl.encoders.base import Features, ImageEncoder, TextEncoder
from medvl.encoders.hub import rebuilding
from medvl.encoders.image2d import HFImageEncoder, TimmEncoder
from medvl.encoders.image3d import MonaiResNet, SwinUNETREncoder, ViT3D
from medvl.encoders.inflate import InflatedTimm
from medvl.encoders.precomputed import Precomputed
from medvl.encoders.slices import SliceEncoder
from medvl.encoders.text import HFTextEncoder
from medvl.encoders.tiny import TinyConv, TinyText, TinyViT
from medvl.encoders.tiny3d import Tiny3D

__all__ = [
    "Features",
    "HFImageEncoder",
    "HFTextEncoder",
    "ImageEncoder",
    "InflatedTimm",
    "MonaiResNet",
    "Precomputed",
    "SliceEncoder",
    "SwinUNETREncoder",
    "TextEncoder",
    "TimmEncoder",
    "Tiny3D",
    "TinyConv",
    "TinyText",
    "TinyViT",
    "ViT3D",
    "rebuilding",
]
