"""Image reading against plain Pillow, NumPy and pydicom."""

from __future__ import annotations

import os
import stat
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut, apply_windowing
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless, generate_uid

from medvl.errors import DataError
from medvl.io import pixels as shared
from medvl.io.image import image_size, read_image

Grey = NDArray[np.uint8]


def radiograph(height: int = 1201, width: int = 1003, seed: int = 0) -> Grey:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    shape = 120 + 60 * np.sin(5 * x) * np.cos(4 * y) + 40 * ((x - 0.3) ** 2 + (y - 0.5) ** 2 < 0.04)
    return np.clip(shape + rng.normal(0, 4, shape.shape), 0, 255).astype(np.uint8)


def plain(picture: Image.Image, shape: tuple[int, int]) -> Grey:
    return np.asarray(picture.convert("L").resize(shape[::-1], Image.Resampling.BILINEAR))


def assert_close(ours: Grey, theirs: Grey, mean: float = 1.0) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).mean() < mean


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("size", [64, 300, 640, 1100])
def test_a_scaled_jpeg_is_close_to_the_full_one(tmp_path: Path, mode: str, size: int, progressive: bool) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(radiograph()).convert(mode).save(path, quality=90, progressive=progressive)
    pixels, original = read_image(path, size)
    assert original == image_size(path) == (1201, 1003)
    assert pixels.shape == (size, round(1003 * size / 1201))
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert_close(pixels, plain(Image.open(path), pixels.shape))


@pytest.mark.parametrize("shape", [(1001, 1003), (999, 1015), (1005, 641)])
def test_scaled_decoding_does_not_shift_the_picture(tmp_path: Path, shape: tuple[int, int]) -> None:
    width = shape[1]
    ramp = np.broadcast_to(np.linspace(10, 240, width), shape).astype(np.uint8)
    path = tmp_path / "ramp.jpg"
    Image.fromarray(ramp).save(path, quality=95)
    pixels = read_image(path, 240).pixels
    expected = np.interp((np.arange(pixels.shape[1]) + 0.5) * width / pixels.shape[1] - 0.5, np.arange(width), ramp[0])
    middle = slice(8, -8)
    assert abs((pixels.mean(0) - expected)[middle].mean()) < 0.2  # a shift of one pixel would be 1.0


def test_without_size_or_when_smaller_the_image_keeps_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture = radiograph(100, 80)
    Image.fromarray(picture).save(path)
    for size in (None, 100, 640):
        np.testing.assert_array_equal(read_image(path, size).pixels, picture)
    with pytest.raises(ValueError, match="size"):
        read_image(path, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    shown = np.full((60, 40), 30, np.uint8)
    shown[:30, :20], shown[:30, 20:] = 220, 120  # three greys tell all eight orientations apart
    undo = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: np.rot90,
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.ascontiguousarray(undo[orientation](shown))).save(path, exif=exif)
    pixels, original = read_image(path, 30)
    assert original == image_size(path) == (60, 40)
    assert pixels.shape == (30, 20)
    assert_close(pixels, plain(Image.fromarray(shown), (30, 20)), mean=4)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1"])
@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_eight_bit_pictures_keep_their_values(tmp_path: Path, mode: str, suffix: str) -> None:
    if suffix == "bmp" and mode == "LA":
        mode = "L"
    picture = Image.fromarray(radiograph(90, 70)).convert(mode)
    path = tmp_path / f"a.{suffix}"
    picture.save(path)
    np.testing.assert_array_equal(read_image(path).pixels, np.asarray(picture.convert("L")))


def test_sixteen_bits_are_stretched_between_percentiles(tmp_path: Path) -> None:
    values = (radiograph(400, 300).astype(np.uint16) * 9 + 700).astype(np.uint16)
    values[:3, :3] = 65535  # a burnt-in marker
    path = tmp_path / "a.png"
    Image.fromarray(values).save(path)
    low, high = np.percentile(values, [0.5, 99.5])
    expected = np.rint(np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255)
    np.testing.assert_array_equal(read_image(path).pixels, expected)
    low, high = np.percentile(values, [10, 90])
    expected = np.rint(np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255)
    np.testing.assert_array_equal(read_image(path, window=(10, 90)).pixels, expected)


def test_the_window_does_not_depend_on_the_size(tmp_path: Path) -> None:
    values = radiograph(2000, 1500).astype(np.uint16) * 16
    path = tmp_path / "a.png"
    Image.fromarray(values).save(path, compress_level=1)
    large, small = read_image(path).pixels, read_image(path, 200).pixels
    assert_close(small, plain(Image.fromarray(large), small.shape), mean=0.3)  # rounding alone


def test_flat_and_float_images(tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 8), 4095, np.uint16)).save(tmp_path / "flat.png")
    assert not read_image(tmp_path / "flat.png").pixels.any()
    ramp = np.linspace(-1000, 1000, 600, dtype=np.float32).reshape(20, 30)
    Image.fromarray(ramp).save(tmp_path / "float.tif")
    pixels = read_image(tmp_path / "float.tif", window=(0, 100)).pixels
    np.testing.assert_array_equal(pixels, np.rint((ramp.astype(float) + 1000) / 2000 * 255))


def test_content_decides_not_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "really-a-png.jpg"
    Image.fromarray(radiograph(40, 30)).save(path, format="PNG")
    assert read_image(path).original == (40, 30)


def png(width: int, height: int, depth: int, colour: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(width * depth // 8 * (3 if colour == 2 else 1)) for _ in range(min(height, 10)))
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def broken_files(folder: Path) -> dict[Path, str]:
    folder.mkdir(exist_ok=True)
    whole = folder / "whole"
    files: dict[str, tuple[bytes, str]] = {
        "empty.jpg": (b"", "empty"),
        "text.png": (b"this is no image\n" * 40, "not an image"),
        "huge.png": (png(30_000, 30_000, 8, 0), "too large"),
        "colour16.png": (png(4, 4, 16, 2), "16-bit colour"),
        "header.dcm": (bytes(128) + b"DICM" + b"\xff" * 40, "DICOM"),
    }
    for suffix, options in (("JPEG", {"quality": 90}), ("PNG", {}), ("TIFF", {}), ("BMP", {})):
        Image.fromarray(radiograph(300, 200)).save(whole, format=suffix, **options)
        content = whole.read_bytes()
        files[f"half.{suffix}"] = content[: len(content) // 2], "cannot read"
        files[f"tail-missing.{suffix}"] = content[:-500], "cannot read"
        files[f"start.{suffix}"] = content[:30], "image"
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    expected = {folder / name: message for name, (_, message) in files.items()}
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    return expected | {
        folder / "folder.jpg": "folder",
        folder / "pipe.jpg": "regular",
        folder / "loop.jpg": "symbolic links",
        folder / "missing.jpg": "no such",
        whole / "below-a-file.jpg": "Not a directory",
    }


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_every_broken_file_is_a_short_error_that_names_it(tmp_path: Path) -> None:
    cases = broken_files(tmp_path / "broken")
    for path, message in cases.items():
        for size in (None, 64):
            with pytest.raises(DataError, match=message) as caught:
                read_image(path, size)
            text = str(caught.value)
            assert str(path) in text
            assert len(text.splitlines()) <= 4


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp", "dcm"])
def test_the_size_comes_from_the_header_alone(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    values = np.random.default_rng(0).integers(0, 255, (700, 500), dtype=np.uint8)
    dicom(path, values) if suffix == "dcm" else Image.fromarray(values).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if suffix != "tif" else content)  # a TIFF's header may be at its end
    assert image_size(path) == (700, 500)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    Image.fromarray(radiograph(20, 20)).save(path)
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything
        assert read_image(path).original == (20, 20)
        return
    with pytest.raises(DataError, match="Permission"):
        read_image(path)
    path.chmod(stat.S_IRUSR)


def test_the_size_is_checked_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(radiograph(50, 50)).save(path)
    monkeypatch.setattr(shared, "MAX_PIXELS", 2499)
    for function in (read_image, image_size):
        with pytest.raises(DataError, match="too large"):
            function(path)


def test_a_multi_page_tiff_is_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(radiograph(20, 20, seed)) for seed in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="3 pages"):
        read_image(tmp_path / "a.tif")


def test_truncated_images_are_never_allowed() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def dicom(path: Path, values: NDArray[np.generic], syntax: str = ExplicitVRLittleEndian, **tags: object) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    data.PatientName, data.PatientID = "Canary^Tweety", "canary-4711"
    data.Rows, data.Columns = values.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = values.dtype.itemsize * 8
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(values.dtype.kind == "i")
    data.PixelData = values.tobytes()
    data["PixelData"].VR = "OW"
    if syntax == RLELossless:
        data.compress(RLELossless)
    elif syntax != ExplicitVRLittleEndian:
        kind, options = ("JPEG2000", {"no_jp2": True}) if syntax == JPEG2000Lossless else ("JPEG", {"quality": 95})
        frame = path.with_suffix(".frame")
        Image.fromarray(values).save(frame, format=kind, **options)
        data.PixelData = encapsulate([frame.read_bytes()])
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = syntax
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path)
    return path


def detector(dtype: type[np.generic] = np.uint16) -> NDArray[np.generic]:
    return (radiograph(120, 90).astype(int) * 13 + 300 - (2000 if dtype is np.int16 else 0)).astype(dtype)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_dicom_windows_agree_with_pydicom(tmp_path: Path, function: str | None, dtype: type[np.generic]) -> None:
    tags: dict[str, object] = {"RescaleSlope": 2, "RescaleIntercept": -1024, "RescaleType": "HU"}
    tags |= {"WindowCenter": [1200.0, 5.0], "WindowWidth": [2400.0, 10.0]}
    tags |= {"VOILUTFunction": function} if function else {}
    path = dicom(tmp_path / "a.dcm", detector(dtype), **tags)
    data = pydicom.dcmread(path)
    theirs = apply_windowing(apply_modality_lut(data.pixel_array, data), data)
    edges = np.array([-32768, 32767] if dtype is np.int16 else [0, 65535]) * 2.0 - 1024
    expected = (theirs - edges[0]) / (edges[1] - edges[0]) * 255
    np.testing.assert_allclose(read_image(path).pixels, expected, atol=0.51)


def test_dicom_without_a_window_uses_percentiles_and_skips_padding(tmp_path: Path) -> None:
    values = detector()
    low, high = np.percentile(values, [0.5, 99.5])
    expected = np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255
    path = dicom(tmp_path / "a.dcm", values)
    np.testing.assert_allclose(read_image(path).pixels, expected, atol=1)
    padded = np.pad(values, 20, constant_values=60_000)
    path = dicom(tmp_path / "b.dcm", padded, PixelPaddingValue=60_000)
    np.testing.assert_allclose(read_image(path).pixels[20:-20, 20:-20], expected, atol=1)


def test_monochrome1_is_inverted_and_eight_bits_are_kept(tmp_path: Path) -> None:
    values = radiograph(120, 90)
    one = read_image(dicom(tmp_path / "one.dcm", values, PhotometricInterpretation="MONOCHROME1")).pixels
    np.testing.assert_array_equal(one, 255 - values)
    np.testing.assert_array_equal(read_image(dicom(tmp_path / "two.dcm", values)).pixels, values)


def test_dicom_lookup_table(tmp_path: Path) -> None:
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 12]
    item.add_new("LUTData", "US", [round((i / 4095) ** 2 * 4095) for i in range(4096)])
    item["LUTDescriptor"].VR = "US"
    values = detector()
    path = dicom(tmp_path / "a.dcm", values, VOILUTSequence=[item])
    np.testing.assert_allclose(read_image(path).pixels, (values / 4095) ** 2 * 255, atol=0.6)


def test_compressed_dicom(tmp_path: Path) -> None:
    values, eight = detector(), radiograph(120, 90)
    expected = read_image(dicom(tmp_path / "raw.dcm", values)).pixels
    for syntax in (RLELossless, JPEG2000Lossless):
        path = dicom(tmp_path / f"{syntax}.dcm", values, syntax)
        np.testing.assert_array_equal(read_image(path).pixels, expected)
        assert image_size(path) == (120, 90)
    assert_close(read_image(dicom(tmp_path / "jpeg.dcm", eight, JPEGBaseline8Bit)).pixels, eight, mean=2)


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_bigendian.dcm"])
def test_real_encodings_of_one_picture_agree(name: str) -> None:
    plain_path, path = get_testdata_file("MR_small.dcm"), get_testdata_file(name)
    np.testing.assert_array_equal(read_image(str(path)).pixels, read_image(str(plain_path)).pixels)


def test_bad_dicom_is_refused_without_quoting_the_patient(tmp_path: Path) -> None:
    whole = dicom(tmp_path / "whole.dcm", detector()).read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:-5000])
    frames = np.stack([detector(), detector()])
    cases = {
        tmp_path / "cut.dcm": "cannot be decoded",
        dicom(tmp_path / "frames.dcm", frames, NumberOfFrames=2): "2 frames",
        dicom(tmp_path / "palette.dcm", radiograph(20, 20), PhotometricInterpretation="PALETTE COLOR"): "colours",
        dicom(tmp_path / "vast.dcm", detector(), Rows=60_000, Columns=60_000): "too large",
        dicom(tmp_path / "none.dcm", detector(), Rows=0): "no pixels",
    }
    for path, message in cases.items():
        with pytest.raises(DataError, match=message) as caught:
            read_image(path, 64)
        assert "anary" not in str(caught.value)
        assert str(path) in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 4


def test_scaled_decoding_is_faster_than_plain(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(radiograph(2400, 2000)).save(path, quality=90)
    ours, theirs = [], []
    for _ in range(7):
        ours.append(timed(lambda: read_image(path, 512)))
        theirs.append(timed(lambda: plain(Image.open(path), (512, 427))))
    assert min(theirs) > 1.2 * min(ours)  # about 2; `medvl bench image-decode` measures it properly


def timed(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start
