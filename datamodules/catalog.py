"""What `medvl data list` shows. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SourceInfo:
    """One source.

    Attributes:
        class_path: What to import.
        description: What it is, in one line.
        licence: Under what terms it is given.
        obtain: How to get it, or its synthetic twin.
    """

    class_path: str
    description: str
    licence: str
    obtain: str


SOURCES = {
    "padchest-gr": SourceInfo(
        "datamodules.sources.padchest_gr.PadChestGR",
        "PadChest-GR: 4,555 chest X-rays, 10,459 report sentences in English and Spanish, boxes in [0, 1]",
        "research use, on request (BIMCV)",
        "https://bimcv.cipf.es/bimcv-projects/padchest-gr; medvl data twin padchest-gr FOLDER",
    ),
    "ms-cxr": SourceInfo(
        "datamodules.sources.ms_cxr.MSCXR",
        "MS-CXR 0.1 and 1.1.0: 1,047 MIMIC-CXR images, 1,448 phrases of 8 findings, boxes in pixels",
        "PhysioNet Credentialed Health Data License 1.5.0",
        "https://physionet.org/content/ms-cxr; medvl data twin ms-cxr FOLDER (or ms-cxr-0.1)",
    ),
    "vindr-cxr": SourceInfo(
        "datamodules.sources.vindr.VinDrCXR",
        "VinDr-CXR 1.0.0: 18,000 chest X-rays (DICOM), 22 findings boxed by three readers (test: by consensus)",
        "PhysioNet Credentialed Health Data License 1.5.0",
        "https://physionet.org/content/vindr-cxr; medvl data twin vindr-cxr FOLDER",
    ),
    "rsna": SourceInfo(
        "datamodules.sources.rsna.RSNAPneumonia",
        "RSNA Pneumonia Detection Challenge, stage 2: 26,684 chest X-rays (DICOM) of NIH, boxes of lung opacities",
        "research use, by the rules of the challenge (Kaggle)",
        "https://www.kaggle.com/c/rsna-pneumonia-detection-challenge; medvl data twin rsna FOLDER",
    ),
    "imagenome": SourceInfo(
        "datamodules.sources.imagenome.ChestImaGenome",
        "Chest ImaGenome 1.0.0: 242,072 MIMIC-CXR images, report sentences weakly placed by anatomy; 500 gold images",
        "PhysioNet Credentialed Health Data License 1.5.0",
        "https://physionet.org/content/chest-imagenome; medvl data twin imagenome FOLDER",
    ),
    "table": SourceInfo(
        "datamodules.sources.table.PhraseTable",
        "a table of your own: CSV, Parquet or JSON lines with image, phrase, boxes, patient_id, split",
        "yours",
        "medvl data twin table FOLDER shows the forms it takes",
    ),
    "mimic-cxr": SourceInfo(
        "datamodules.sources.mimic_cxr.MIMICCXR",
        "MIMIC-CXR(-JPG) 2.x: 377,110 chest X-rays, 227,835 reports of 65,379 patients, CheXpert labels, splits",
        "PhysioNet Credentialed Health Data License 1.5.0",
        "https://physionet.org/content/mimic-cxr-jpg; medvl data twin mimic-cxr FOLDER",
    ),
    "chexpert": SourceInfo(
        "datamodules.sources.chexpert.CheXpert",
        "CheXpert 1.0: 223,648 chest X-rays with 14 labels; CheXpert Plus: its reports, beside it or alone",
        "Stanford University research use (AIMI)",
        "https://stanfordaimi.azurewebsites.net; medvl data twin chexpert FOLDER",
    ),
    "padchest": SourceInfo(
        "datamodules.sources.padchest.PadChest",
        "PadChest: 160,861 chest X-rays of 67,625 patients, reports as Spanish word stems, 174 findings as labels",
        "research use, on request (BIMCV)",
        "https://bimcv.cipf.es/bimcv-projects/padchest; medvl data twin padchest FOLDER",
    ),
    "openi": SourceInfo(
        "datamodules.sources.openi.OpenI",
        "Open-i (Indiana University): 7,470 chest X-rays, 3,955 reports as XML with MeSH codes",
        "CC BY-NC-ND 4.0",
        "https://openi.nlm.nih.gov/faq#collection; medvl data twin openi FOLDER",
    ),
    "reports": SourceInfo(
        "datamodules.sources.report_table.ReportTable",
        "a table of your own: CSV, Parquet or JSON lines with image, text, patient_id, labels, split",
        "yours",
        "any table with an image and a report per row",
    ),
    "ct-rate": SourceInfo(
        "datamodules.sources.ct_rate.CTRATE",
        "CT-RATE: 25,692 chest CTs (50,188 volumes) with reports and 18 labels, both editions; snippets by a table",
        "CC BY-NC-SA 4.0, on request (Hugging Face)",
        "https://huggingface.co/datasets/ibrahimhamamci/CT-RATE; medvl data twin ct-rate FOLDER",
    ),
    "rex-grounding-ct": SourceInfo(
        "datamodules.sources.rex_grounding.ReXGroundingCT",
        "ReXGroundingCT: 8,028 findings of CT-RATE's reports with masks in 3,142 volumes, as depths in mm",
        "CC BY-NC-SA 4.0, on request (Hugging Face)",
        "https://huggingface.co/datasets/rajpurkarlab/ReXGroundingCT",
    ),
    "rad-chestct": SourceInfo(
        "datamodules.sources.rad_chestct.RadChestCT",
        "Rad-ChestCT: 3,630 chest CTs with 84 abnormalities, as the 16 classes shared with CT-RATE; no reports",
        "CC BY-NC-ND 4.0",
        "https://zenodo.org/records/6406114",
    ),
    "radgenome-chestct": SourceInfo(
        "datamodules.sources.rad_genome.RadGenomeChestCT",
        "RadGenome-ChestCT: 665,000 sentences of CT-RATE's reports with their region, as depths of the region's mask",
        "CC BY-NC-SA 4.0, on request (Hugging Face)",
        "https://huggingface.co/datasets/RadGenome/RadGenome-ChestCT",
    ),
    "totalsegmentator": SourceInfo(
        "datamodules.sources.total_segmentator.TotalSegmentator",
        "TotalSegmentator: 1,228 CTs with 117 structures, as template snippets in English and German; no reports",
        "CC BY 4.0",
        "https://zenodo.org/records/6802613",
    ),
    "deeplesion": SourceInfo(
        "datamodules.sources.deep_lesion.DeepLesion",
        "DeepLesion: 32,735 lesions of 4,427 patients on key slices of CT slabs, as template snippets; no reports",
        "by NIH's terms of use",
        "https://nihcc.app.box.com/v/DeepLesion",
    ),
    "merlin": SourceInfo(
        "datamodules.sources.merlin.Merlin",
        "Merlin: 25,494 abdominal CTs of 18,317 patients with reports and findings for zero-shot; no snippets",
        "Stanford University research use (AIMI), on request",
        "https://stanfordaimi.azurewebsites.net",
    ),
    "volume-table": SourceInfo(
        "datamodules.sources.volume_table.VolumeTable",
        "a table of your own: CSV, Parquet or JSON lines with volume, text, labels, snippets, patient_id, split",
        "yours",
        "any table with a NIfTI file or a DICOM folder per row",
    ),
}
