"""Twins: small synthetic datasets in the exact layout of datasets that one has to ask for."""

TWINS = {
    "padchest-gr": "datamodules.twins.padchest_gr.write",
    "ms-cxr": "datamodules.twins.ms_cxr.write",
    "ms-cxr-0.1": "datamodules.twins.ms_cxr.write_v01",
    "vindr-cxr": "datamodules.twins.vindr.write",
    "rsna": "datamodules.twins.rsna.write",
    "mimic-cxr": "datamodules.twins.mimic_cxr.write",
    "chexpert": "datamodules.twins.chexpert.write",
    "padchest": "datamodules.twins.padchest.write",
    "openi": "datamodules.twins.openi.write",
    "imagenome": "datamodules.twins.imagenome.write",
    "table": "datamodules.twins.table.write",
    "ct-rate": "datamodules.twins.ct_rate.write",
    "ct-slices": "datamodules.twins.ct_slices.write",
}
"""Writers by name: `write(folder, studies, seed, difficulty=0.5, workers=None, *, size=None, ...)`."""
