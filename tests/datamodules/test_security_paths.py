"""Tables whose cells lead out of the data set's folder: no source reads there, each tells the row."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules import sources
from datamodules.sources.base import Source
from datamodules.sources.files import OutsideError, resolve_inside
from datamodules.sources.graph_files import GraphFiles
from datamodules.studies import read_studies
from datamodules.twins import chexpert, ct_rate, imagenome, mimic_cxr, ms_cxr, openi, padchest, padchest_gr, rsna, vindr
from medvl.errors import DataError

TOLD = "Unspeakable words of another department."
SUFFIXES = ("", ".png", ".jpg", ".jpeg", ".dcm", ".txt", ".npz", ".nii.gz", "_SceneGraph.json")
WRITERS: dict[str, tuple[Callable[..., None], Callable[[Path], Source[Any]]]] = {
    "padchest-gr": (padchest_gr.write, sources.PadChestGR),
    "padchest": (padchest.write, sources.PadChest),
    "ms-cxr": (ms_cxr.write, sources.MSCXR),
    "imagenome": (imagenome.write, lambda root: sources.ChestImaGenome(root, workers=0)),
    "mimic-cxr": (mimic_cxr.write, sources.MIMICCXR),
    "chexpert": (chexpert.write, sources.CheXpert),
    "vindr": (vindr.write, sources.VinDrCXR),
    "rsna": (rsna.write, sources.RSNAPneumonia),
    "openi": (openi.write, sources.OpenI),
    "ct-rate": (ct_rate.write, sources.CTRATE),
}


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that no table may lead to; `secret` with every suffix is a readable file in it."""
    folder = tmp_path_factory.mktemp("outside")
    Image.fromarray(np.full((32, 32), 200, np.uint8)).save(folder / "secret.png")
    for suffix in SUFFIXES:
        if suffix != ".png":
            (folder / f"secret{suffix}").write_bytes((folder / "secret.png").read_bytes())
    (folder / "secret.txt").write_text(f"FINDINGS: {TOLD}")
    graph = {"objects": [{"object_id": "a"}], "attributes": [{"phrases": [TOLD]}]}
    (folder / "secret_SceneGraph.json").write_text(json.dumps(graph))
    return folder


def forms(outside: Path) -> list[str]:
    """Return the ways to name the secret, without its suffix."""
    secret = str(outside / "secret")
    climbing = "x/" + "../" * 16 + secret[1:]
    return [secret, climbing, climbing.replace("/", "\\"), f"file://{secret}", "link/secret", "C:\\secret", "a\0b"]


def spoil(table: Path, old: str, new: str) -> None:
    """Put `new` in the place of a name wherever a table has it."""
    packed, text = table.suffix == ".gz", json.dumps(new)[1:-1] if table.suffix == ".json" else new
    content = gzip.decompress(table.read_bytes()) if packed else table.read_bytes()
    content = content.replace(old.encode(), text.encode())
    table.write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("name", WRITERS)
def test_names_in_tables_lead_nowhere_else(name: str, outside: Path, tmp_path: Path) -> None:
    write, source = WRITERS[name]
    write(tmp_path / "in", 6, seed=0, size=64, workers=0)
    clean = source(tmp_path / "in")
    record = clean.read().records[0]
    (clean.root / "link").symlink_to(outside)
    stem = Path(record.paths[0]).name.partition(".")[0]
    ids = [stem, *([record.study_id.removeprefix("s")] if name == "mimic-cxr" else [])]
    folder = (clean.root / record.paths[0]).parent
    for inner in (folder, folder.parent):  # so that the climbing begins in a folder that is there
        for prefix in ("x", "sx"):
            (inner / prefix).mkdir(exist_ok=True)
    tables = {table: table.read_bytes() for table in clean.tables()}
    for old in ids:
        for new in forms(outside):
            for table, content in tables.items():
                table.write_bytes(content)
                spoil(table, old, new)
            hostile = source(tmp_path / "in")
            try:
                loaded = hostile.read()
            except DataError:  # where that was the one study that tells the folder
                continue
            assert len(loaded.problems) > 0
            for one in loaded.records:
                assert TOLD not in one.text if hasattr(one, "text") else TOLD not in one.phrase
                assert all((hostile.root / path).resolve().is_relative_to(hostile.root.resolve()) for path in one.paths)


@pytest.mark.parametrize("kind", ["phrases", "reports", "volumes"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_own_tables_lead_nowhere_else(kind: str, suffix: str, outside: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "link").symlink_to(outside)
    column = "volume" if kind == "volumes" else "image"
    ends = ".nii.gz" if kind == "volumes" else ".png"
    rows = [{column: f"{name}{ends}", "phrase": "A.", "report": "A.", "text": "A."} for name in forms(outside)]
    table = tmp_path / f"table{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), table)
    elif suffix == ".jsonl":
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        table.write_text("\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]))
    source: Source[Any] = {
        "phrases": sources.PhraseTable,
        "reports": lambda path: sources.ReportTable(path, columns={"text": "text"}),
        "volumes": sources.VolumeTable,
    }[kind](table)
    loaded = source.read()
    assert loaded.records == []
    codes = [p.code for p in loaded.problems if p.fatal]
    assert set(codes) <= {"path-outside", "image-missing", "row-unreadable"}
    assert codes.count("path-outside") >= 4  # a NUL is no CSV, file:/// a folder that is not there, two forms are one
    if kind == "phrases":
        with pytest.raises(DataError):
            read_studies(table)


@pytest.mark.parametrize(
    ("make", "tables"),
    [
        (sources.Merlin, {"reports_final.csv": "study id,Split,Findings\n{},train,A.\n"}),
        (sources.TotalSegmentator, {"meta.csv": "image_id;split\n{};train\n"}),
        (
            sources.DeepLesion,
            {
                "DL_info.csv": "File_name,Patient_index,Key_slice_index,Spacing_mm_px_,Bounding_boxes,Slice_range,"
                'Possibly_noisy,Train_Val_Test,Coarse_lesion_type\n{}_5.png,1,5,"1, 1, 1","1,1,2,2","1, 9",0,1,1\n'
            },
        ),
    ],
    ids=["merlin", "total-segmentator", "deep-lesion"],
)
def test_names_of_scans_lead_nowhere_else(
    make: Callable[[Path], Source[Any]], tables: dict[str, str], outside: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(outside)
    for new in forms(outside):
        for name, content in tables.items():
            (tmp_path / name).write_text(content.format(new))
        loaded = make(tmp_path).read()
        assert loaded.records == []
        assert loaded.problems[0].fatal


def test_a_series_with_a_slice_from_elsewhere_is_refused(outside: Path, tmp_path: Path) -> None:
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "1.dcm").symlink_to(outside / "secret.dcm")
    (tmp_path / "table.csv").write_text("volume,text\nscan,A.\n")
    assert [p.code for p in sources.VolumeTable(tmp_path / "table.csv").read().problems if p.fatal] == ["path-outside"]
    assert sources.VolumeTable(tmp_path / "table.csv", follow_links=True).read().records


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_masks_and_slices_from_elsewhere_are_refused(linked: str, tmp_path: Path) -> None:
    away, slab = tmp_path / "away", "Images_png/000001_01_01"
    away.mkdir()
    for name in ("005.png", "liver.nii.gz", "train_1_a_1.nii.gz"):
        (away / name).write_bytes(b"secret")
    places = ("s1/segmentations", "liver.nii.gz"), (slab, "005.png"), ("segmentations", "train_1_a_1.nii.gz")
    for folder, name in places:
        place = tmp_path / "in" / folder
        place.parent.mkdir(parents=True, exist_ok=True)
        if linked == "folder":
            place.symlink_to(away)
        else:
            place.mkdir()
            (place / name).symlink_to(away / name)
    root = tmp_path / "in"
    (root / "meta.csv").write_text("image_id;split\ns1;train\n")
    (root / "DL_info.csv").write_text(
        "File_name,Patient_index,Coarse_lesion_type,Possibly_noisy,Spacing_mm_px_,Train_Val_Test\n"
        '000001_01_01_005.png,1,4,0,"1, 1, 1",1\n'
    )
    (root / "dataset.json").write_text(json.dumps({"train": [{"name": "train_1_a_1.nii.gz", "findings": {"0": "A."}}]}))
    for make in (sources.TotalSegmentator, sources.DeepLesion, sources.ReXGroundingCT):
        options = {} if make is sources.DeepLesion else {"workers": 0}
        told = [(one.code, one.message) for one in make(root, **options).read().problems]
        assert any(code in ("mask-unreadable", "path-outside") and "symbolic link" in text for code, text in told), told
        opened = make(root, follow_links=True, **options).read()
        assert not any("symbolic link" in one.message for one in opened.problems)


def test_graphs_are_read_from_their_folder_alone(outside: Path, tmp_path: Path) -> None:
    (tmp_path / "a_SceneGraph.json").symlink_to(outside / "secret_SceneGraph.json")
    for name in ("a", str(outside / "secret"), f"../{outside.name}/secret", "a\0b"):
        with pytest.raises(OutsideError):
            GraphFiles(tmp_path).read(f"{name}_SceneGraph.json")
    assert TOLD.encode() in (GraphFiles(tmp_path).read("a_SceneGraph.json", follow_links=True) or b"")


@pytest.mark.parametrize("path", ["http://host/x.png", "s3://bucket/x.png", "file:///etc/x.png"])
def test_addresses_are_no_paths(tmp_path: Path, path: str) -> None:
    with pytest.raises(OutsideError, match="leaves the dataset's folder"):
        resolve_inside(tmp_path, path)
