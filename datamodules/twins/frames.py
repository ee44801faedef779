"""Sentence frames of the synthetic reports, in English and Spanish; `phrases.py` fills them."""

from __future__ import annotations

# {np} is the noun phrase, {a} the same with its article, {at} the place with a leading space (or nothing), {At} the
# place put first; {be}, {n} and {s} agree in number.
PRESENT_EN = (
    "{np}{at}.",
    "{np}{at}.",
    "There {be} {a}{at}.",
    "{a} {be} seen{at}.",
    "{a} {be} present{at}.",
    "{a} {be} noted{at}.",
    "Presence of {a}{at}.",
    "Findings consistent with {a}{at}.",
    "Findings suggestive of {np}{at}.",
    "Evidence of {np}{at}.",
    "{a} can be identified{at}.",
    "The radiograph shows {a}{at}.",
    "The image demonstrates {a}{at}.",
    "{a} {be} visible{at}.",
    "{np} {be} observed{at}.",
    "Appearances in keeping with {np}{at}.",
    "Signs of {np}{at}.",
    "We see {a}{at}.",
    "{a}{at} {be} evident.",
    "The film reveals {a}{at}.",
    "Note is made of {a}{at}.",
    "{a} {be} demonstrated{at}.",
    "Radiographic signs of {np}{at}.",
    "Probable {np}{at}.",
)
PRESENT_ES = (
    "{np}{at}.",
    "{np}{at}.",
    "Se observa{n} {np}{at}.",
    "Se aprecia{n} {a}{at}.",
    "Se identifica{n} {a}{at}.",
    "Presencia de {np}{at}.",
    "Hallazgos compatibles con {np}{at}.",
    "Signos de {np}{at}.",
    "Se visualiza{n} {a}{at}.",
    "Existe{n} {a}{at}.",
    "La radiografía muestra {a}{at}.",
    "Imagen compatible con {np}{at}.",
    "Imagen sugestiva de {np}{at}.",
    "Se evidencia{n} {np}{at}.",
    "Se objetiva{n} {a}{at}.",
    "Destaca{n} {a}{at}.",
    "Probable{s} {np}{at}.",
    "Signos radiológicos de {np}{at}.",
)
FIRST_EN = ("{At}, {a} {be} seen.", "{At} there {be} {a}.", "{At}, {np}.", "{At}, there is evidence of {np}.")
FIRST_ES = ("{At} se observa{n} {a}.", "{At} se aprecia{n} {np}.", "{At}, {np}.", "{At} se identifica{n} {a}.")
TAIL_EN = (" without associated {other}", " with no {other}", ", without evidence of {other}")
TAIL_ES = (" sin {other}", ", sin evidencia de {other}", ", sin signos de {other}")

NEGATED_EN = (
    "No {np}.",
    "No {np} is seen.",
    "There is no {np}.",
    "There is no evidence of {np}.",
    "Without evidence of {np}.",
    "No evidence of {np}.",
    "No signs of {np}.",
    "Absence of {np}.",
    "{Np} is not identified.",
    "No {np} or {other}.",
    "Neither {np} nor {other} is seen.",
    "Negative for {np}.",
    "No definite {np}.",
    "No radiographic evidence of {np} or {other}.",
    "No {np} is identified in either hemithorax.",
    "The previously described {np} has resolved.",
)
NEGATED_ES = (
    "Sin {np}.",
    "No se observa {np}.",
    "No hay {np}.",
    "No hay evidencia de {np}.",
    "Sin evidencia de {np}.",
    "Sin signos de {np}.",
    "Ausencia de {np}.",
    "No se identifica {np}.",
    "No se aprecia {np} ni {other}.",
    "Sin {np} ni {other}.",
    "No se visualiza {np}.",
    "Se descarta {np}.",
    "No existe {np}.",
    "Sin signos radiológicos de {np} ni {other}.",
    "No se identifica {np} en ninguno de los dos hemitórax.",
)

# Normal anatomy: (English, Spanish, kinds with which it may not be said).
_LUNGS = (
    "pneumothorax",
    "consolidation",
    "nodule",
    "mass",
    "atelectasis",
    "interstitial pattern",
    "fibrosis",
    "calcified granuloma",
    "cavitation",
    "bulla",
    "bronchiectasis",
    "pleural effusion",
)
_PLEURAL = ("pleural effusion", "pneumothorax", "pleural thickening")
_HEART = ("cardiomegaly",)
_CENTRE = ("hiatal hernia", "aortic elongation", "hilar enlargement", "cardiomegaly")
_BONES = ("rib fracture",)
NORMAL: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Normal heart size.", "Tamaño cardíaco normal.", _HEART),
    ("The heart is of normal size.", "El corazón es de tamaño normal.", _HEART),
    (
        "Cardiac silhouette within normal limits.",
        "Silueta cardíaca dentro de los límites normales.",
        (*_HEART, "hiatal hernia"),
    ),
    ("The cardiothoracic ratio is normal.", "Índice cardiotorácico normal.", _HEART),
    ("The lungs are clear.", "Los pulmones están limpios.", _LUNGS),
    ("Lungs are clear bilaterally.", "Pulmones limpios de forma bilateral.", _LUNGS),
    ("Both lungs are well aerated.", "Ambos pulmones bien aireados.", _LUNGS),
    ("Normal lung parenchyma.", "Parénquima pulmonar normal.", _LUNGS),
    ("Lung fields are unremarkable.", "Campos pulmonares sin alteraciones.", _LUNGS),
    ("The costophrenic angles are sharp.", "Senos costofrénicos libres.", _PLEURAL),
    ("Clear costophrenic sulci.", "Ángulos costofrénicos libres.", _PLEURAL),
    ("The pleural spaces are normal.", "Espacios pleurales normales.", _PLEURAL),
    ("The mediastinum is normal.", "Mediastino normal.", _CENTRE),
    ("Mediastinal contours are unremarkable.", "Contornos mediastínicos sin alteraciones.", _CENTRE),
    ("The cardiomediastinal silhouette is normal.", "Silueta cardiomediastínica normal.", _CENTRE),
    ("Normal hilar contours.", "Hilios de morfología normal.", ("hilar enlargement",)),
    ("The hila are normal in size and position.", "Hilios de tamaño y posición normales.", ("hilar enlargement",)),
    ("The trachea is central.", "Tráquea centrada.", ()),
    ("The bony thorax is intact.", "Marco óseo sin alteraciones.", _BONES),
    ("Osseous structures are unremarkable.", "Estructuras óseas sin hallazgos.", _BONES),
    ("The diaphragm is well defined.", "Diafragmas bien definidos.", _PLEURAL),
    ("Pulmonary vascularity is normal.", "Vascularización pulmonar normal.", ()),
    ("The visible upper abdomen is unremarkable.", "Abdomen superior visible sin hallazgos.", ("hiatal hernia",)),
    ("Aortic contour is normal.", "Contorno aórtico normal.", ("aortic elongation",)),
)
NORMAL_STUDY = (
    ("Normal chest radiograph.", "Radiografía de tórax normal."),
    ("No significant abnormality.", "Sin alteraciones significativas."),
    ("Unremarkable chest film.", "Radiografía de tórax sin hallazgos."),
    ("No acute cardiopulmonary findings.", "Sin hallazgos cardiopulmonares agudos."),
    ("Chest radiograph without relevant findings.", "Radiografía de tórax sin hallazgos relevantes."),
)
