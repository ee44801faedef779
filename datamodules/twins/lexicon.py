"""Words of the synthetic reports, in English and Spanish; `phrases.py` holds the grammar."""

from __future__ import annotations

from dataclasses import dataclass

LUNG, PLEURA, HILUM, BONE, CHEST, FIXED = "lung", "pleura", "hilum", "bone", "chest", "fixed"


@dataclass(frozen=True, slots=True)
class Words:
    """How a kind of finding is spoken of.

    Attributes:
        en: Nouns as `singular|plural`.
        es: Nouns as `singular|plural|gender`.
        place: Which places its sentences may name: lung, pleura, hilum, bone, chest or fixed (none).
        sizes: Key of the size adjectives.
        en_more: Adjectives of texture.
        es_more: The same in Spanish, masculine singular.
    """

    en: tuple[str, ...]
    es: tuple[str, ...]
    place: str
    sizes: str
    en_more: tuple[str, ...] = ()
    es_more: tuple[str, ...] = ()


WORDS: dict[str, Words] = {
    "pleural effusion": Words(
        (
            "pleural effusion|pleural effusions",
            "effusion|effusions",
            "pleural fluid collection|pleural fluid collections",
        ),
        ("derrame pleural|derrames pleurales|m", "derrame|derrames|m"),
        PLEURA,
        "amount",
        ("free",),
        ("libre",),
    ),
    "pneumothorax": Words(("pneumothorax|pneumothoraces",), ("neumotórax|neumotórax|m",), PLEURA, "amount"),
    "consolidation": Words(
        (
            "consolidation|consolidations",
            "airspace consolidation|airspace consolidations",
            "alveolar opacity|alveolar opacities",
            "pneumonic infiltrate|pneumonic infiltrates",
            "airspace opacity|airspace opacities",
        ),
        (
            "consolidación|consolidaciones|f",
            "opacidad alveolar|opacidades alveolares|f",
            "condensación|condensaciones|f",
            "infiltrado alveolar|infiltrados alveolares|m",
        ),
        LUNG,
        "extent",
        ("patchy", "ill-defined", "dense"),
        ("parcheado", "mal definido", "denso"),
    ),
    "nodule": Words(
        (
            "nodule|nodules",
            "pulmonary nodule|pulmonary nodules",
            "nodular opacity|nodular opacities",
            "lung nodule|lung nodules",
        ),
        ("nódulo|nódulos|m", "nódulo pulmonar|nódulos pulmonares|m", "opacidad nodular|opacidades nodulares|f"),
        LUNG,
        "size",
        ("well-defined", "rounded"),
        ("bien definido", "redondeado"),
    ),
    "mass": Words(
        (
            "mass|masses",
            "pulmonary mass|pulmonary masses",
            "lung mass|lung masses",
            "mass-like lesion|mass-like lesions",
        ),
        (
            "masa|masas|f",
            "masa pulmonar|masas pulmonares|f",
            "lesión con aspecto de masa|lesiones con aspecto de masa|f",
        ),
        LUNG,
        "bulk",
        ("lobulated", "well-circumscribed"),
        ("lobulado", "bien delimitado"),
    ),
    "atelectasis": Words(
        (
            "linear atelectasis|linear atelectases",
            "plate-like atelectasis|plate-like atelectases",
            "band of atelectasis|bands of atelectasis",
            "subsegmental atelectasis|subsegmental atelectases",
            "atelectatic band|atelectatic bands",
        ),
        (
            "atelectasia laminar|atelectasias laminares|f",
            "atelectasia lineal|atelectasias lineales|f",
            "banda de atelectasia|bandas de atelectasia|f",
            "atelectasia subsegmentaria|atelectasias subsegmentarias|f",
        ),
        LUNG,
        "degree",
    ),
    "interstitial pattern": Words(
        (
            "interstitial pattern|interstitial patterns",
            "reticular pattern|reticular patterns",
            "interstitial infiltrate|interstitial infiltrates",
            "reticular opacity|reticular opacities",
        ),
        (
            "patrón intersticial|patrones intersticiales|m",
            "patrón reticular|patrones reticulares|m",
            "infiltrado intersticial|infiltrados intersticiales|m",
        ),
        LUNG,
        "extent",
        ("fine", "coarse"),
        ("fino", "grueso"),
    ),
    "fibrosis": Words(
        (
            "pulmonary fibrosis|areas of pulmonary fibrosis",
            "fibrotic scarring|areas of fibrotic scarring",
            "fibrotic change|fibrotic changes",
            "fibrous tract|fibrous tracts",
        ),
        (
            "fibrosis pulmonar|áreas de fibrosis pulmonar|f",
            "cambio fibrótico|cambios fibróticos|m",
            "tracto fibroso|tractos fibrosos|m",
            "cicatriz fibrosa|cicatrices fibrosas|f",
        ),
        LUNG,
        "degree",
        ("retractile",),
        ("retráctil",),
    ),
    "pleural thickening": Words(
        (
            "pleural thickening|areas of pleural thickening",
            "thickening of the pleura|areas of thickening of the pleura",
            "thickened pleura|areas of thickened pleura",
        ),
        (
            "engrosamiento pleural|engrosamientos pleurales|m",
            "engrosamiento de la pleura|engrosamientos de la pleura|m",
        ),
        PLEURA,
        "degree",
        ("smooth",),
        ("liso",),
    ),
    "calcified granuloma": Words(
        (
            "calcified granuloma|calcified granulomas",
            "calcified lesion|calcified lesions",
            "granulomatous calcification|granulomatous calcifications",
        ),
        (
            "granuloma calcificado|granulomas calcificados|m",
            "calcificación granulomatosa|calcificaciones granulomatosas|f",
        ),
        LUNG,
        "none",
        ("dense",),
        ("denso",),
    ),
    "cavitation": Words(
        (
            "cavitation|cavitations",
            "cavitary lesion|cavitary lesions",
            "cavitated lesion|cavitated lesions",
            "cavity|cavities",
        ),
        ("cavitación|cavitaciones|f", "lesión cavitada|lesiones cavitadas|f", "cavidad|cavidades|f"),
        LUNG,
        "size",
        ("thick-walled",),
        ("de pared gruesa",),
    ),
    "bulla": Words(
        ("bulla|bullae", "emphysematous bulla|emphysematous bullae", "air-filled bulla|air-filled bullae"),
        ("bulla|bullas|f", "bulla enfisematosa|bullas enfisematosas|f", "bulla aérea|bullas aéreas|f"),
        LUNG,
        "size",
        ("thin-walled",),
        ("de pared fina",),
    ),
    "bronchiectasis": Words(
        (
            "bronchiectasis|areas of bronchiectasis",
            "bronchial dilatation|areas of bronchial dilatation",
            "group of dilated bronchi|groups of dilated bronchi",
        ),
        ("bronquiectasia|bronquiectasias|f", "dilatación bronquial|dilataciones bronquiales|f"),
        LUNG,
        "degree",
        ("cystic", "cylindrical"),
        ("quístico", "cilíndrico"),
    ),
    "hilar enlargement": Words(
        (
            "hilar enlargement|hilar enlargements",
            "prominence of the hilum|prominence of the hila",
            "enlarged hilum|enlarged hila",
        ),
        (
            "aumento hiliar|aumentos hiliares|m",
            "prominencia hiliar|prominencias hiliares|f",
            "hilio aumentado|hilios aumentados|m",
        ),
        HILUM,
        "degree",
        ("lobulated",),
        ("lobulado",),
    ),
    "rib fracture": Words(
        (
            "rib fracture|rib fractures",
            "costal fracture|costal fractures",
            "healed rib fracture|healed rib fractures",
            "fracture callus|fracture calluses",
        ),
        (
            "fractura costal|fracturas costales|f",
            "callo de fractura|callos de fractura|m",
            "fractura costal consolidada|fracturas costales consolidadas|f",
        ),
        BONE,
        "none",
    ),
    "pacemaker": Words(
        (
            "pacemaker|pacemakers",
            "pacemaker generator|pacemaker generators",
            "cardiac pacing device|cardiac pacing devices",
        ),
        (
            "marcapasos|marcapasos|m",
            "generador de marcapasos|generadores de marcapasos|m",
            "dispositivo de marcapasos|dispositivos de marcapasos|m",
        ),
        CHEST,
        "none",
    ),
    "hiatal hernia": Words(
        ("hiatal hernia|hiatal hernias", "hiatus hernia|hiatus hernias", "retrocardiac hernia|retrocardiac hernias"),
        ("hernia de hiato|hernias de hiato|f", "hernia hiatal|hernias hiatales|f"),
        FIXED,
        "bulk",
    ),
    "aortic elongation": Words(
        (
            "aortic elongation|aortic elongations",
            "elongated aorta|elongated aortas",
            "aortic enlargement|aortic enlargements",
            "dilated aortic arch|dilated aortic arches",
        ),
        (
            "elongación aórtica|elongaciones aórticas|f",
            "aorta elongada|aortas elongadas|f",
            "dilatación del cayado aórtico|dilataciones del cayado aórtico|f",
        ),
        FIXED,
        "degree",
    ),
    "cardiomegaly": Words(
        (
            "cardiomegaly|cardiomegaly",
            "enlarged cardiac silhouette|enlarged cardiac silhouettes",
            "enlargement of the heart|enlargement of the heart",
        ),
        (
            "cardiomegalia|cardiomegalias|f",
            "silueta cardíaca aumentada|siluetas cardíacas aumentadas|f",
            "aumento del índice cardiotorácico|aumentos del índice cardiotorácico|m",
        ),
        FIXED,
        "degree",
    ),
}

# Adjectives by grade 0, 1, 2.
SIZES_EN = {
    "amount": (("small", "minimal", "tiny"), ("moderate", "moderate-sized"), ("large", "extensive", "massive")),
    "size": (("small", "tiny"), ("medium-sized",), ("large", "sizeable")),
    "bulk": (("small",), ("medium-sized", "moderate-sized"), ("large", "bulky")),
    "extent": (("small", "limited"), ("moderate",), ("extensive", "large")),
    "degree": (("mild", "slight", "subtle"), ("moderate",), ("marked", "prominent", "severe")),
    "none": ((), (), ()),
}
SIZES_ES = {
    "amount": (("pequeño", "mínimo", "escaso"), ("moderado",), ("grande", "extenso", "masivo")),
    "size": (("pequeño", "diminuto"), ("de tamaño medio",), ("grande", "de gran tamaño")),
    "bulk": (("pequeño",), ("de tamaño medio",), ("grande", "de gran tamaño")),
    "extent": (("pequeño", "limitado"), ("moderado",), ("extenso", "amplio")),
    "degree": (("leve", "ligero", "discreto"), ("moderado",), ("marcado", "prominente", "severo")),
    "none": ((), (), ()),
}

COUNTS_EN = {2: ("two", "two", "a couple of"), 3: ("three", "multiple", "several"), 4: ("four", "multiple", "several")}
COUNTS_ES = {2: ("dos", "dos", "un par de"), 3: ("tres", "múltiples", "varios"), 4: ("cuatro", "múltiples", "varios")}

# Places. English after the noun; Spanish the same. {s} is the side.
SIDE_EN = {"right": "right", "left": "left"}
SIDE_ES = {"right": ("derecho", "derecha"), "left": ("izquierdo", "izquierda")}
ZONES_EN = {
    "upper": ("upper lobe", "upper zone", "upper lung field"),
    "middle": ("mid zone", "middle lung field"),
    "lower": ("lower lobe", "lower zone", "lung base"),
}
ZONES_ES = {
    "upper": ("lóbulo superior|m", "campo superior|m"),
    "middle": ("campo medio|m", "tercio medio pulmonar|m"),
    "lower": ("lóbulo inferior|m", "base pulmonar|f", "campo inferior|m"),
}
WHOLE_EN = {
    LUNG: ("in the {s} lung", "in the {s} hemithorax", "on the {s}"),
    PLEURA: ("in the {s} hemithorax", "on the {s} side", "on the {s}"),
    HILUM: ("on the {s}", "on the {s} side"),
    BONE: ("on the {s}", "on the {s} side", "in the {s} hemithorax"),
    CHEST: ("on the {s}", "over the {s} hemithorax", "in the {s} chest wall"),
}
WHOLE_ES = {
    LUNG: ("en el pulmón {m}", "en el hemitórax {m}", "en el lado {m}"),
    PLEURA: ("en el hemitórax {m}", "en el lado {m}"),
    HILUM: ("en el lado {m}",),
    BONE: ("en el hemitórax {m}", "en el lado {m}"),
    CHEST: ("en el lado {m}", "sobre el hemitórax {m}", "en la pared torácica {f}"),
}
BOTH_EN = {
    LUNG: "in both lungs",
    PLEURA: "on both sides",
    HILUM: "on both sides",
    BONE: "on both sides",
    CHEST: "on both sides",
}
BOTH_ES = {
    LUNG: "en ambos pulmones",
    PLEURA: "en ambos lados",
    HILUM: "en ambos lados",
    BONE: "en ambos lados",
    CHEST: "en ambos lados",
}
