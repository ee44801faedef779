"""English synonyms that no ordinary twin uses: what a text encoder must know beforehand, since training never says it.

Nouns as in `lexicon.Words.en`, `singular|plural`.
"""

from __future__ import annotations

NOUNS: dict[str, tuple[str, ...]] = {
    "pleural effusion": (
        "blunting of the costophrenic angle|blunting of the costophrenic angles",
        "blunted angle|blunted angles",
        "hydrothorax|hydrothoraces",
    ),
    "pneumothorax": ("collapsed lung|collapsed lungs", "intrapleural gas collection|intrapleural gas collections"),
    "consolidation": (
        "airspace disease|areas of airspace disease",
        "lobar opacification|lobar opacifications",
        "focus of pneumonia|foci of pneumonia",
    ),
    "nodule": ("coin lesion|coin lesions", "pulmonary spot|pulmonary spots"),
    "mass": ("neoplasm|neoplasms", "space-occupying lesion|space-occupying lesions", "tumour|tumours"),
    "atelectasis": ("volume loss|areas of volume loss", "discoid collapse|areas of discoid collapse"),
    "interstitial pattern": ("reticulation|areas of reticulation", "prominent marking|prominent markings"),
    "fibrosis": ("parenchymal scar|parenchymal scars", "cicatricial change|cicatricial changes"),
    "pleural thickening": ("pleural rind|pleural rinds", "pachypleuritis|areas of pachypleuritis"),
    "calcified granuloma": ("healed focus|healed foci", "calcific density|calcific densities"),
    "cavitation": ("excavation|excavations", "excavated lesion|excavated lesions"),
    "bulla": ("bleb|blebs", "air cyst|air cysts"),
    "bronchiectasis": ("ectatic airway|ectatic airways", "tram-track shadow|tram-track shadows"),
    "hilar enlargement": ("hilar fullness|areas of hilar fullness", "hilar adenopathy|hilar adenopathies"),
    "rib fracture": ("broken rib|broken ribs", "cortical break of a rib|cortical breaks of the ribs"),
    "pacemaker": ("pulse generator|pulse generators", "implanted electronic device|implanted electronic devices"),
    "hiatal hernia": ("intrathoracic stomach|intrathoracic stomachs", "herniated stomach|herniated stomachs"),
    "aortic elongation": ("unfolded aorta|unfolded aortas", "tortuous aorta|tortuous aortas"),
    "cardiomegaly": ("increased heart size|increased heart sizes", "dilated heart|dilated hearts"),
}
ZONES = {
    "upper": ("apex", "apical region"),
    "middle": ("perihilar region",),
    "lower": ("basilar region", "costophrenic region"),
}
BOTH = {"upper": "biapical", "lower": "bibasilar"}  # on both sides, in this zone
UNCOUNTABLE = ("disease", "loss", "collapse", "reticulation", "pleuritis", "fullness", "heart size", "blunting")
