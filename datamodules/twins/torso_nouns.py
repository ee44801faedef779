"""The words for findings of a torso, in English and German."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Noun(NamedTuple):
    """A noun in the singular and the plural, with its gender (German: `m`, `f`, `n`)."""

    one: str
    many: str
    gender: str = ""


SIDED = {"renal cyst": "kidney", "kidney stone": "kidney", "angiomyolipoma": "kidney", "effusion": "pleura"}
"""Where the sides of a kind are; in the lungs where it is not named."""
_LUNGS = ("nodule", "cavity", "consolidation", "ground glass", "bulla", "band", "fibrosis", "granuloma")
_BONES = ("sclerotic lesion", "lytic lesion")
_LIVER = ("liver cyst", "liver metastasis", "liver calcification")
_KIDNEYS = ("renal cyst", "kidney stone", "angiomyolipoma")
_AORTA = ("plaque", "aneurysm", "stent")


@dataclass(frozen=True)
class Language:
    """How one language says it.

    Attributes:
        nouns: Of each kind.
        affirmed: Sentences with `{np}` or `{a}` (with article) and `{at}`.
        sized: The same with `{mm}`.
        several: The same of several.
        denied: Denials, of the plural.
        normal: Sentences about organs, each with the kinds that make it false.
        heart: Of a heart of normal size, and of a large one.
        places: By family and what is told of `side` and `zone`.
        terms: Sides, zones, and sizes (by gender where that matters).
        articles: By gender; English has one.
    """

    nouns: Mapping[str, tuple[Noun, ...]]
    affirmed: tuple[str, ...]
    sized: tuple[str, ...]
    several: tuple[str, ...]
    denied: tuple[str, ...]
    normal: tuple[tuple[str, tuple[str, ...]], ...]
    heart: tuple[str, str]
    places: Mapping[str, tuple[str, ...]]
    terms: Mapping[str, str]
    articles: Mapping[str, str]

    def with_size(self, noun: Noun, size: str, several: bool) -> str:
        """Return a noun, with the adjective of a size before it."""
        ending = "p" if several else noun.gender
        adjective = self.terms.get(f"{size}/{ending}", self.terms.get(size, ""))
        return " ".join(filter(None, (adjective, noun.many if several else noun.one)))

    def with_article(self, named: str, noun: Noun) -> str:
        """Return what `with_size` named, in the singular, with its article."""
        article = self.articles[noun.gender] or ("an" if named[0].lower() in "aeiou" else "a")
        return f"{article} {named}"


def _nouns(gendered: bool, **told: str) -> dict[str, tuple[Noun, ...]]:
    """Parse `one|many, one|many`; of German with the gender before a colon."""
    found = {}
    for kind, texts in told.items():
        parsed = []
        for text in texts.split(", "):
            gender, _, words = text.rpartition(":") if gendered else ("", "", text)
            one, _, many = words.partition("|")
            parsed.append(Noun(one, many or one, gender))
        found[kind.replace("_", " ")] = tuple(parsed)
    return found


EN = Language(
    nouns=_nouns(
        False,
        nodule="pulmonary nodule|pulmonary nodules, solid nodule|solid nodules, nodule|nodules",
        cavity="thick-walled cavity|thick-walled cavities, cavitary lesion|cavitary lesions, cavity|cavities",
        consolidation="consolidation|consolidations, airspace consolidation|airspace consolidations, "
        "area of consolidation with air bronchogram|areas of consolidation with air bronchogram",
        ground_glass="ground-glass opacity|ground-glass opacities, area of ground glass|areas of ground glass, "
        "hazy opacity|hazy opacities",
        bulla="bulla|bullae, emphysematous bulla|emphysematous bullae, large air space without vessels|"
        "large air spaces without vessels",
        band="band of atelectasis|bands of atelectasis, linear atelectasis|linear atelectases, "
        "plate-like atelectasis|plate-like atelectases",
        fibrosis="area of reticular scarring|areas of reticular scarring, fibrotic change|fibrotic changes, "
        "patch of honeycombing|patches of honeycombing",
        granuloma="calcified granuloma|calcified granulomas, "
        "calcified pulmonary granuloma|calcified pulmonary granulomas, "
        "densely calcified pulmonary focus|densely calcified pulmonary foci",
        effusion="pleural effusion|pleural effusions, layering pleural effusion|layering pleural effusions, "
        "collection of pleural fluid|collections of pleural fluid",
        lymph_node="enlarged mediastinal lymph node|enlarged mediastinal lymph nodes, "
        "mediastinal lymphadenopathy|mediastinal lymphadenopathy, mediastinal node|mediastinal nodes",
        coronary_calcification="coronary calcification|coronary calcifications, "
        "calcified coronary plaque|calcified coronary plaques, coronary artery calcification|coronary artery "
        "calcifications",
        plaque="calcified plaque of the aortic wall|calcified plaques of the aortic wall, "
        "aortic wall calcification|aortic wall calcifications, aortic plaque|aortic plaques",
        aneurysm="aneurysm of the descending aorta|aneurysms of the descending aorta, "
        "aortic aneurysm|aortic aneurysms, focal dilatation of the aorta|focal dilatations of the aorta",
        stent="aortic stent|aortic stents, stent graft in the aorta|stent grafts in the aorta, "
        "endovascular prosthesis of the aorta|endovascular prostheses of the aorta",
        liver_cyst="hepatic cyst|hepatic cysts, cyst of the liver|cysts of the liver, liver cyst|liver cysts",
        liver_metastasis="liver metastasis|liver metastases, rim-enhancing liver lesion|rim-enhancing liver lesions, "
        "hypodense hepatic metastasis|hypodense hepatic metastases",
        liver_calcification="calcification of the liver|calcifications of the liver, "
        "hepatic calcification|hepatic calcifications, calcified focus in the liver|calcified foci in the liver",
        renal_cyst="renal cyst|renal cysts, cortical cyst of the kidney|cortical cysts of the kidney, "
        "kidney cyst|kidney cysts",
        kidney_stone="kidney stone|kidney stones, renal calculus|renal calculi, renal stone|renal stones",
        angiomyolipoma="renal angiomyolipoma|renal angiomyolipomas, "
        "fatty tumour of the kidney|fatty tumours of the kidney, "
        "fat-containing renal lesion|fat-containing renal lesions",
        sclerotic_lesion="sclerotic vertebral lesion|sclerotic vertebral lesions, "
        "osteoblastic focus in a vertebral body|osteoblastic foci in the vertebral bodies, "
        "dense bone lesion of the spine|dense bone lesions of the spine",
        lytic_lesion="lytic vertebral lesion|lytic vertebral lesions, osteolysis of a vertebral body|osteolyses of the "
        "vertebral bodies, destructive bone lesion of the spine|destructive bone lesions of the spine",
    ),
    affirmed=(
        "{np}{at}.", "There is {a}{at}.", "{a}{at} is seen.", "Evidence of {a}{at}.", "{np}{at} noted.",
        "The scan shows {a}{at}.", "Finding consistent with {a}{at}.", "{a} is present{at}.", "{np} visible{at}.",
    ),
    sized=(
        "{np}{at}, {mm} mm.", "There is {a}{at} measuring {mm} mm.", "{np} of {mm} mm{at}.",
        "{a}{at}, about {mm} mm across.", "{np}{at} ({mm} mm).", "{mm} mm {np}{at}.",
    ),
    several=("{np}{at}.", "There are {np}{at}.", "{np} are seen{at}.", "Several {np}{at}."),
    denied=("No {np}.", "There are no {np}.", "No evidence of {np}.", "{np} are not seen."),
    normal=(
        ("The lungs are clear.", (*_LUNGS, "effusion")),
        ("The remaining lung parenchyma is normal.", ()),
        ("The pleural spaces are free.", ("effusion",)),
        ("The liver is of homogeneous density.", _LIVER),
        ("The kidneys are unremarkable.", _KIDNEYS),
        ("No suspicious bone lesion.", _BONES),
        ("The aorta is of normal calibre.", _AORTA),
        ("The trachea and main bronchi are patent.", ()),
        ("The spleen is normal.", ()),
        ("No enlarged axillary nodes.", ()),
    ),
    heart=("The heart is of normal size.", "The heart is enlarged."),
    places={
        "lung/side": (" in the {side} lung", " on the {side}", " in the {side} hemithorax"),
        "lung/zone": (" in the {zone} zone of the lung", " in the {zone} lung zone"),
        "lung/side/zone": (" in the {zone} zone of the {side} lung", " in the {side} lung, {zone} zone"),
        "kidney/side": (" in the {side} kidney", " on the {side}"),
        "pleura/side": (" on the {side}", " in the {side} hemithorax"),
        "pleura/zone": (" at the {zone} chest",),
        "pleura/side/zone": (" on the {side}, {zone} zone",),
    },
    terms={
        "right": "right", "left": "left", "upper": "upper", "middle": "middle", "lower": "lower", "small": "small",
        "large": "large",
    },
    articles={"": ""},
)  # fmt: skip

DE = Language(
    nouns=_nouns(
        True,
        nodule="m:Rundherd|Rundherde, m:solider Rundherd|solide Rundherde, m:Lungenrundherd|Lungenrundherde",
        cavity="f:dickwandige Kaverne|dickwandige Kavernen, f:Kaverne|Kavernen, f:Einschmelzung|Einschmelzungen",
        consolidation="f:Konsolidierung|Konsolidierungen, n:pneumonisches Infiltrat|pneumonische Infiltrate, "
        "f:Verdichtung mit Bronchopneumogramm|Verdichtungen mit Bronchopneumogramm",
        ground_glass="n:Milchglasareal|Milchglasareale, f:Milchglastrübung|Milchglastrübungen, "
        "f:milchglasartige Verdichtung|milchglasartige Verdichtungen",
        bulla="f:Bulla|Bullae, f:Emphysembulla|Emphysembullae, f:Emphysemblase|Emphysemblasen",
        band="f:Plattenatelektase|Plattenatelektasen, f:streifige Atelektase|streifige Atelektasen, "
        "f:bandförmige Belüftungsstörung|bandförmige Belüftungsstörungen",
        fibrosis="f:retikuläre Narbe|retikuläre Narben, f:fibrotische Veränderung|fibrotische Veränderungen, "
        "n:Areal mit Honigwabenmuster|Areale mit Honigwabenmuster",
        granuloma="n:verkalktes Granulom|verkalkte Granulome, n:Kalkgranulom der Lunge|Kalkgranulome der Lunge, "
        "m:dichter Kalkherd der Lunge|dichte Kalkherde der Lunge",
        effusion="m:Pleuraerguss|Pleuraergüsse, m:auslaufender Pleuraerguss|auslaufende Pleuraergüsse, "
        "f:pleurale Flüssigkeit|pleurale Flüssigkeiten",
        lymph_node="m:vergrößerter mediastinaler Lymphknoten|vergrößerte mediastinale Lymphknoten, "
        "f:mediastinale Lymphadenopathie|mediastinale Lymphadenopathien, m:Mediastinallymphknoten",
        coronary_calcification="f:Koronarverkalkung|Koronarverkalkungen, m:Koronarkalk, "
        "f:Verkalkung der Herzkranzgefäße|Verkalkungen der Herzkranzgefäße",
        plaque="f:Verkalkung der Aortenwand|Verkalkungen der Aortenwand, m:Kalkplaque der Aorta|Kalkplaques der Aorta, "
        "f:Aortenwandverkalkung|Aortenwandverkalkungen",
        aneurysm="n:Aneurysma der Aorta descendens|Aneurysmen der Aorta descendens, "
        "n:Aortenaneurysma|Aortenaneurysmen, f:umschriebene Erweiterung der Aorta|umschriebene Erweiterungen der Aorta",
        stent="m:Aortenstent|Aortenstents, f:Stentprothese der Aorta|Stentprothesen der Aorta, "
        "f:endovaskuläre Aortenprothese|endovaskuläre Aortenprothesen",
        liver_cyst="f:Leberzyste|Leberzysten, f:hepatische Zyste|hepatische Zysten, f:Zyste der Leber|Zysten der Leber",
        liver_metastasis="f:Lebermetastase|Lebermetastasen, f:hypodense hepatische Metastase|hypodense hepatische "
        "Metastasen, f:randständig anreichernde Leberläsion|randständig anreichernde Leberläsionen",
        liver_calcification="f:Leberverkalkung|Leberverkalkungen, m:Kalkherd der Leber|Kalkherde der Leber, "
        "f:hepatische Verkalkung|hepatische Verkalkungen",
        renal_cyst="f:Nierenzyste|Nierenzysten, f:kortikale Zyste der Niere|kortikale Zysten der Niere, "
        "f:renale Zyste|renale Zysten",
        kidney_stone="m:Nierenstein|Nierensteine, n:Nierenkonkrement|Nierenkonkremente, "
        "n:Konkrement der Niere|Konkremente der Niere",
        angiomyolipoma="n:Angiomyolipom der Niere|Angiomyolipome der Niere, m:fetthaltiger Nierentumor|fetthaltige "
        "Nierentumoren, f:fetthaltige Raumforderung der Niere|fetthaltige Raumforderungen der Niere",
        sclerotic_lesion="f:sklerotische Wirbelkörperläsion|sklerotische Wirbelkörperläsionen, "
        "m:osteoblastischer Herd der Wirbelsäule|osteoblastische Herde der Wirbelsäule, "
        "f:sklerosierte Knochenläsion der Wirbelsäule|sklerosierte Knochenläsionen der Wirbelsäule",
        lytic_lesion="f:Osteolyse der Wirbelsäule|Osteolysen der Wirbelsäule, f:lytische Wirbelkörperläsion|lytische "
        "Wirbelkörperläsionen, f:osteolytische Destruktion eines Wirbelkörpers|osteolytische Destruktionen von "
        "Wirbelkörpern",
    ),
    affirmed=(
        "{np}{at}.", "Es findet sich {a}{at}.", "{np}{at} abgrenzbar.", "Nachweis: {np}{at}.", "{np}{at} nachweisbar.",
        "Es zeigt sich {a}{at}.", "Befund: {np}{at}.", "{a}{at} ist erkennbar.", "Sichtbar: {np}{at}.",
    ),
    sized=(
        "{np}{at}, {mm} mm.", "Es findet sich {a}{at}, Durchmesser {mm} mm.", "{np}{at} ({mm} mm).",
        "{np}{at}, etwa {mm} mm messend.", "{np} von {mm} mm{at}.", "Es zeigt sich {a}{at}, {mm} mm.",
    ),
    several=("{np}{at}.", "Es finden sich {np}{at}.", "{np}{at} abgrenzbar.", "Mehrere {np}{at}."),
    denied=("Keine {np}.", "Kein Nachweis: {np}.", "{np} nicht abgrenzbar.", "Kein Hinweis auf {np}."),
    normal=(
        ("Die Lungen sind frei.", (*_LUNGS, "effusion")),
        ("Das übrige Lungenparenchym ist regelrecht.", ()),
        ("Die Pleurahöhlen sind frei.", ("effusion",)),
        ("Die Leber ist homogen.", _LIVER),
        ("Die Nieren sind unauffällig.", _KIDNEYS),
        ("Keine suspekte Knochenläsion.", _BONES),
        ("Die Aorta ist normal weit.", _AORTA),
        ("Trachea und Hauptbronchien sind frei.", ()),
        ("Die Milz ist unauffällig.", ()),
        ("Keine vergrößerten axillären Lymphknoten.", ()),
    ),
    heart=("Das Herz ist normal groß.", "Das Herz ist vergrößert."),
    places={
        "lung/side": (" in der {side}n Lunge", " im {side}n Hemithorax", " der {side}n Lunge"),
        "lung/zone": (" im {zone}n Lungenfeld",),
        "lung/side/zone": (" im {zone}n Feld der {side}n Lunge", " in der {side}n Lunge, {zone}s Feld"),
        "kidney/side": (" auf der {side}n Seite", " an der {side}n Niere"),
        "pleura/side": (" auf der {side}n Seite", " im {side}n Hemithorax"),
        "pleura/zone": (" im {zone}n Thorax",),
        "pleura/side/zone": (" auf der {side}n Seite, {zone}s Feld",),
    },
    terms={
        "right": "rechte", "left": "linke", "upper": "obere", "middle": "mittlere", "lower": "untere",
        "small/m": "kleiner", "small/f": "kleine", "small/n": "kleines", "small/p": "kleine",
        "large/m": "großer", "large/f": "große", "large/n": "großes", "large/p": "große",
    },
    articles={"m": "ein", "f": "eine", "n": "ein"},
)  # fmt: skip
