"""TotalSegmentator's 117 structures in English and German, and what templates say of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

_PLAIN = {
    "spleen": ("spleen", "Milz"),
    "gallbladder": ("gallbladder", "Gallenblase"),
    "liver": ("liver", "Leber"),
    "stomach": ("stomach", "Magen"),
    "pancreas": ("pancreas", "Pankreas"),
    "esophagus": ("oesophagus", "Ösophagus"),
    "trachea": ("trachea", "Trachea"),
    "thyroid_gland": ("thyroid gland", "Schilddrüse"),
    "small_bowel": ("small bowel", "Dünndarm"),
    "duodenum": ("duodenum", "Duodenum"),
    "colon": ("colon", "Kolon"),
    "urinary_bladder": ("urinary bladder", "Harnblase"),
    "prostate": ("prostate", "Prostata"),
    "sacrum": ("sacrum", "Sakrum"),
    "heart": ("heart", "Herz"),
    "aorta": ("aorta", "Aorta"),
    "pulmonary_vein": ("pulmonary veins", "Lungenvenen"),
    "brachiocephalic_trunk": ("brachiocephalic trunk", "Truncus brachiocephalicus"),
    "superior_vena_cava": ("superior vena cava", "Vena cava superior"),
    "inferior_vena_cava": ("inferior vena cava", "Vena cava inferior"),
    "portal_vein_and_splenic_vein": ("portal and splenic vein", "Pfortader und Milzvene"),
    "spinal_cord": ("spinal cord", "Rückenmark"),
    "brain": ("brain", "Gehirn"),
    "skull": ("skull", "Schädel"),
    "sternum": ("sternum", "Sternum"),
    "costal_cartilages": ("costal cartilages", "Rippenknorpel"),
}
_SIDED = {  # {} is where the side goes in the name of the mask
    "kidney_{}": ("kidney", "Niere"),
    "kidney_cyst_{}": ("renal cyst", "Nierenzyste"),
    "adrenal_gland_{}": ("adrenal gland", "Nebenniere"),
    "lung_upper_lobe_{}": ("upper lobe of the lung", "Lungenoberlappen"),
    "lung_lower_lobe_{}": ("lower lobe of the lung", "Lungenunterlappen"),
    "subclavian_artery_{}": ("subclavian artery", "Arteria subclavia"),
    "common_carotid_artery_{}": ("common carotid artery", "Arteria carotis communis"),
    "brachiocephalic_vein_{}": ("brachiocephalic vein", "Vena brachiocephalica"),
    "atrial_appendage_{}": ("atrial appendage", "Vorhofohr"),
    "iliac_artery_{}": ("common iliac artery", "Arteria iliaca communis"),
    "iliac_vena_{}": ("common iliac vein", "Vena iliaca communis"),
    "humerus_{}": ("humerus", "Humerus"),
    "scapula_{}": ("scapula", "Skapula"),
    "clavicula_{}": ("clavicle", "Klavikula"),
    "femur_{}": ("femur", "Femur"),
    "hip_{}": ("hip bone", "Hüftbein"),
    "gluteus_maximus_{}": ("gluteus maximus muscle", "Musculus gluteus maximus"),
    "gluteus_medius_{}": ("gluteus medius muscle", "Musculus gluteus medius"),
    "gluteus_minimus_{}": ("gluteus minimus muscle", "Musculus gluteus minimus"),
    "autochthon_{}": ("autochthonous back muscle", "autochthone Rückenmuskulatur"),
    "iliopsoas_{}": ("iliopsoas muscle", "Musculus iliopsoas"),
}
_SIDES = {"left": "links", "right": "rechts"}
_SPINE = ("S1", *(f"L{n}" for n in range(1, 6)), *(f"T{n}" for n in range(1, 13)), *(f"C{n}" for n in range(1, 8)))
_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth",
)  # fmt: skip


def _named() -> Iterator[tuple[str, tuple[str, str]]]:
    yield from _PLAIN.items()
    for (mask, (english, german)), (side, seite) in product(_SIDED.items(), _SIDES.items()):
        if not (mask.startswith("atrial") and side == "right"):  # only the left one is segmented
            yield mask.format(side), (f"{side} {english}", f"{german} {seite}")
    yield "lung_middle_lobe_right", ("middle lobe of the lung", "Mittellappen der Lunge")
    for level in _SPINE:
        yield f"vertebrae_{level}", (f"vertebral body {level}", f"Wirbelkörper {level.replace('T', 'Th')}")
    for (number, ordinal), (side, seite) in product(enumerate(_ORDINALS, 1), _SIDES.items()):
        yield f"rib_{side}_{number}", (f"{ordinal} rib on the {side}", f"{number}. Rippe {seite}")


STRUCTURES: dict[str, tuple[str, str]] = dict(_named())
"""By mask: its name in English and in German."""
LANGUAGES = ("en", "de")
WHOLE, TOP, BOTTOM = "whole", "top", "bottom"
TEMPLATES: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        WHOLE: ("{}.", "Level of the {}.", "The {} is seen here.", "Section through the {}.", "Shown: {}."),
        TOP: ("Upper end of the {}.", "Cranial border of the {}.", "The {} begins here from above."),
        BOTTOM: ("Lower end of the {}.", "Caudal border of the {}.", "The {} ends here towards the feet."),
    },
    "de": {  # in forms that need no article, and so no gender
        WHOLE: ("{}.", "Auf Höhe: {}.", "Abgebildet: {}.", "Schnitt in der Ebene: {}.", "Dargestellt: {}."),
        TOP: ("Oberrand: {}.", "Kraniale Begrenzung: {}.", "{}, oberes Ende."),
        BOTTOM: ("Unterrand: {}.", "Kaudale Begrenzung: {}.", "{}, unteres Ende."),
    },
}
