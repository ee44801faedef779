"""Files that a few kilobytes make huge, and texts that a page or a terminal would obey."""

from __future__ import annotations

import gzip
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from datamodules.sources import OpenI
from datamodules.sources.rex_masks import measure
from datamodules.sources.rows import read_table, stream_columns
from medvl.cli.main import main
from medvl.errors import DataError, MedvlError
from medvl.io import bounded, dicom
from medvl.io.dicom_series import list_series
from medvl.io.image import image_size, read_image
from medvl.io.nifti import read_labels, read_nifti
from medvl.io.npz import read_npz
from medvl.io.slab import read_slab
from medvl.outputs import PhrasePrediction, write_predictions
from medvl.viz.report import write_report

MB = 1 << 20


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path: Path, width: int = 8, height: int = 8, *more: bytes) -> Path:
    """Write a PNG whose header may lie, with further chunks."""
    pixels = zlib.compress(b"\0" * (8 * 9))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


def film(path: Path, rows: int, columns: int, frames: int = 1, padding: int = 0) -> Path:
    """Write a DICOM film whose header may lie; with `padding`, a deflated one that unpacks to so many bytes."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian if padding else ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    data.Rows, data.Columns, data.NumberOfFrames = rows, columns, frames
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    data.PixelSpacing = [1, 1]
    data.PixelData = bytes(max(128, padding))
    data.save_as(path, enforce_file_format=True)
    return path


def refused(read: Callable[..., Any], path: Path, *more: Any) -> str:
    """Check that reading ends in an error of at most four lines that names the file."""
    with pytest.raises(DataError) as caught:
        read(path, *more)
    assert len(str(caught.value).splitlines()) <= 4
    assert path.name in str(caught.value)
    return str(caught.value)


def test_pictures_that_unpack_to_gigabytes(tmp_path: Path) -> None:
    assert "too large" in refused(read_image, png(tmp_path / "wide.png", 2**31 - 1, 2**31 - 1))
    assert "too large" in refused(read_image, png(tmp_path / "large.png", 9000, 9000))
    assert "too large" in refused(image_size, png(tmp_path / "size.png", 60_000, 60_000))
    packed, little = (zlib.compress(bytes(size * MB), 9) for size in (8, 1))
    refused(read_image, png(tmp_path / "text.png", 8, 8, chunk(b"zTXt", b"a\0\0" + packed)))
    refused(read_image, png(tmp_path / "many.png", 8, 8, *[chunk(b"zTXt", b"a\0\0" + little)] * 70))
    refused(read_image, png(tmp_path / "profile.png", 8, 8, chunk(b"iCCP", b"a\0\0" + packed)))
    Image.new("L", (8, 8)).save(tmp_path / "page.eps")
    (tmp_path / "5.png").write_bytes((tmp_path / "page.eps").read_bytes())  # PostScript is a program
    refused(read_image, tmp_path / "5.png")
    refused(read_slab, tmp_path / "5.png", np.diag([1.0, 1.0, 1.0, 1.0]), (1.0, 0.0))
    refused(read_slab, png(tmp_path / "6.png", 30_000, 30_000), np.diag([1.0, 1.0, 1.0, 1.0]), (1.0, 0.0))


def test_dicom_that_unpacks_to_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "too large" in refused(read_image, film(tmp_path / "a.dcm", 65_535, 65_535))
    assert "frames" in refused(read_image, film(tmp_path / "b.dcm", 512, 512, 2**31 - 1))
    assert "cannot be decoded" in refused(read_image, film(tmp_path / "c.dcm", 8_000, 8_000))
    monkeypatch.setattr(dicom, "MAX_DEFLATED", 4 * MB)
    (tmp_path / "series").mkdir()
    bomb = film(tmp_path / "series" / "d.dcm", 8, 8, padding=5 * MB)
    assert bomb.stat().st_size < MB / 50
    for read in (read_image, image_size):
        assert "too large once unpacked" in refused(read, bomb)
    with pytest.raises(DataError, match="too large once unpacked"):
        list_series(bomb.parent)
    assert read_image(film(tmp_path / "e.dcm", 8, 8, padding=128)).original == (8, 8)


def nifti(shape: tuple[int, ...], offset: float = 352.0, kind: int = 4) -> bytes:
    """Return a NIfTI header that may lie."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<hh", head, 70, kind, 16)
    struct.pack_into("<8f", head, 76, 1, *[1.0] * 7)
    struct.pack_into("<f", head, 108, offset)
    struct.pack_into("<hh", head, 252, 0, 1)
    for row in range(3):
        struct.pack_into("<4f", head, 280 + 16 * row, *(float(row == column) for column in range(3)), 0.0)
    head[344:348] = b"n+1\0"
    return bytes(head)


def test_volumes_that_promise_terabytes(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(nifti((32_767, 32_767, 32_767))))
    assert "too large" in refused(read_nifti, path)
    path.write_bytes(gzip.compress(nifti((1000, 1000, 1000))))
    assert "cannot hold" in refused(read_nifti, path)
    path.write_bytes(gzip.compress(nifti((8, 8, 8), offset=1e30)))
    assert "damaged header" in refused(read_nifti, path)
    path.write_bytes(gzip.compress(nifti((8, 8, 8)) + bytes(1 << 12)))
    assert read_labels(path)[0].shape == (8, 8, 8)
    path.write_bytes(gzip.compress(nifti((8, 8, 8)) + bytes(8 * MB)))
    assert "more lies behind" in refused(read_labels, path)
    mask = tmp_path / "mask.nii.gz"
    path.write_bytes(gzip.compress(nifti((30_000, 30_000, 30_000))))
    mask.write_bytes(gzip.compress(nifti((30_000, 30_000, 30_000, 30_000))))
    assert "too large" in refused(lambda file: measure(file, path), mask)


def test_arrays_that_promise_petabytes_or_hold_objects(tmp_path: Path) -> None:
    def archive(name: str, content: bytes) -> Path:
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("ct.npy", content)
        return tmp_path / name

    def header(shape: str, kind: str = "<i2", version: bytes = b"\1\0") -> bytes:
        text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        size = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
        return b"\x93NUMPY" + version + size + text

    where = np.diag([1.0, 1.0, 1.0, 1.0])
    assert "too large" in refused(read_npz, archive("a.npz", header("(100000, 100000, 100000)")), "ct", where)
    assert "not object" in refused(read_npz, archive("b.npz", header("(8, 8, 8)", "|O")), "ct", where)
    assert "plain array" in refused(read_npz, archive("c.npz", header("(8, 8, 8)", version=b"\2\0")), "ct", where)
    refused(read_npz, archive("d.npz", header("(" * 5000)), "ct", where)
    refused(read_npz, archive("e.npz", header("(8, 8, 8)") + bytes(10)), "ct", where)
    np.savez(tmp_path / "f.npz", ct=np.array([{"a": 1}], dtype=object))
    refused(read_npz, tmp_path / "f.npz", "ct", where)
    np.save(tmp_path / "g.npz.npy", np.array([{"a": 1}], dtype=object))
    refused(read_npz, (tmp_path / "g.npz.npy").rename(tmp_path / "g.npz"), "ct", where)


def sheet(path: Path, rows: str) -> Path:
    """Write the least of a workbook."""
    spec = "http://schemas.openxmlformats.org"
    kinds = f"{spec}/officeDocument/2006/relationships"
    parts = {
        "_rels/.rels": f'<Relationships xmlns="{spec}/package/2006/relationships"><Relationship Id="r1" '
        f'Type="{kinds}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{spec}/spreadsheetml/2006/main" xmlns:r="{kinds}"><sheets>'
        '<sheet name="s" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{spec}/package/2006/relationships"><Relationship Id="r1" '
        f'Type="{kinds}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{spec}/spreadsheetml/2006/main"><sheetData>{rows}</sheetData>'
        "</worksheet>",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in parts.items():
            file.writestr(name, f'<?xml version="1.0"?>{text}')
    return path


def test_tables_that_unpack_to_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setattr(bounded, "SMALL", MB)
    path = tmp_path / "t.csv.gz"
    for content in (bytes(2 * MB), b"image,phrase\n" * (MB // 8), b'image,phrase\n"' + b"a" * 2 * MB):
        path.write_bytes(gzip.compress(content))
        assert "unpacks to more" in refused(read_table, path)
        refused(lambda file: list(stream_columns(file, "image")), path)
    with zipfile.ZipFile(tmp_path / "t.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("t.csv", bytes(2 * MB))
    assert "unpacks to more" in refused(read_table, tmp_path / "t.zip")
    pq.write_table(pa.table({"image": pa.nulls(3_000_000)}), tmp_path / "t.parquet")
    assert "in so small a file" in refused(read_table, tmp_path / "t.parquet")
    huge = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>'
    assert "too large" in refused(read_table, sheet(tmp_path / "t.xlsx", huge))
    assert read_table(sheet(tmp_path / "u.xlsx", '<row r="1"><c r="A1"><v>7</v></c></row>')).columns == ["7.0"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_with_entities(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "secret.txt").write_text("unspeakable")
    for entity in (f'SYSTEM "file://{tmp_path}/secret.txt"', '"' + "unspeakable" * 9 + '"'):
        head = f'<?xml version="1.0" encoding="{encoding}"?>'
        text = f"<!DOCTYPE a [<!ENTITY b {entity}>]>"
        text += '<eCitation><uId id="CXR1"/><AbstractText Label="FINDINGS">&b;</AbstractText></eCitation>'
        (tmp_path / "1.xml").write_bytes((head + text).encode(encoding))
        loaded = OpenI(tmp_path).read()
        assert [p.code for p in loaded.problems if p.fatal] == ["report-unreadable"]
        assert "document type" in loaded.problems[0].message
        assert loaded.records == []


SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def test_no_text_of_a_run_is_obeyed_by_the_page(tmp_path: Path) -> None:
    """Metrics, facts, config, images, phrases and groups of a run may be somebody else's words."""
    run = tmp_path / "grounding" / SCRIPT.replace("/", "") / "2026-01-01_00-00-00"
    (run / "predictions").mkdir(parents=True)
    line = {"step": 1, "epoch": 0, "stage": "fit", "train/loss": 1.0, f"val/{SCRIPT}": 0.5, SCRIPT: 0.1}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n" + json.dumps(line | {"step": 2}) + "\n")
    (run / "fit.yaml").write_text(f"name: |\n  {SCRIPT}\n")
    (run / "data.json").write_text(json.dumps({SCRIPT: SCRIPT, "pairs": 3}))
    box = (0.0, 0.0, 4.0, 4.0)
    case = PhrasePrediction(f"{SCRIPT}.png", SCRIPT, (box,), (0.9,), 0.5, "boxed", SCRIPT, width=8, height=8)
    cases = [replace(case, root=str(tmp_path), gold_xyxy_px=(box,), groups={SCRIPT: SCRIPT})] * 3
    write_predictions(run / "predictions" / "test.jsonl", cases)
    page = write_report(run).read_text(encoding="utf-8")
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "<img src=x" not in page


@pytest.mark.parametrize("sign", ["\x1b]0;owned\x07", "\x1b[2J", "\r\n", "\u202e", "\udce9", "\x9b31m"])
def test_no_name_is_obeyed_by_the_terminal(sign: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = MedvlError(f"bad{sign}", where=f"x{sign}.png", hint=f"{sign}{sign}", command=f"medvl {sign}")
    assert len(str(error).splitlines()) == 4
    assert sign not in str(error)
    assert str(error).isascii()
    assert main([f"no{sign}"]) == 2
    told = capsys.readouterr().err
    assert sign not in told
    assert len(told.splitlines()) <= 4
