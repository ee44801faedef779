"""Reports and the images they are about, as users have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.sources import MIMICCXR
from datamodules.studies import read_studies, read_text, studies_of
from datamodules.twins import mimic_cxr
from medvl.errors import ConfigError, DataError


def test_one_report_about_several_images(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_bytes("Größe normal.".encode("cp1252"))
    (study,) = read_studies(tmp_path / "r.txt", [Path("a.png"), Path("b.dcm")])
    assert (study.name, study.report, study.images) == ("r", "Größe normal.", [Path("a.png"), Path("b.dcm")])


def test_a_folder_pairs_names(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.txt", "b.txt", "images/a.png", "images/b.dcm", "images/c.png"):
        (tmp_path / name).write_text(name)
    studies = read_studies(tmp_path, [tmp_path / "images"])
    assert [(study.name, [path.name for path in study.images]) for study in studies] == [
        ("a", ["a.png"]),
        ("b", ["b.dcm"]),
    ]
    assert [path.name for path in read_studies(tmp_path)[0].images] == ["a.dcm"]  # not there, which is told later


def test_a_report_with_the_longest_name(tmp_path: Path) -> None:
    name = "n" * 251  # with .txt, all that a file system takes; with .jpeg more
    (tmp_path / f"{name}.txt").write_text("No pneumothorax.")
    (study,) = read_studies(tmp_path)
    assert study.name == name


def test_a_table_joins_rows_of_a_study(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("File;Text;study_id\nd/a.png;A mass.;7\nd/b.png;;7\nc.png;Clear.;\nd.png;;\n")
    studies = read_studies(tmp_path / "t.csv", columns={"image": "File", "report": "Text"})
    assert [(study.name, study.report, study.where) for study in studies] == [
        ("7", "A mass.", "t.csv:2"), ("c.png", "Clear.", "t.csv:4"), ("d.png", None, "t.csv:5"),
    ]  # fmt: skip
    assert studies[0].images == [tmp_path / "d/a.png", tmp_path / "d/b.png"]


def test_images_alone_wait_for_a_generator(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"x")
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "notes.md").write_bytes(b"x")
    assert [(study.name, study.report) for study in read_studies(None, [tmp_path])] == [("a", None), ("b", None)]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("image,report\n../x.png,A mass.\n", "leaves the dataset's folder"),
        ("image,report\n,A mass.\n", "no image is named"),
        ("image,report\n", "has no row"),
        ("file,report\nx.png,A mass.\n", "'image' is missing"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, rows: str, told: str) -> None:
    (tmp_path / "t.csv").write_text(rows)
    with pytest.raises(DataError, match=told):
        read_studies(tmp_path / "t.csv")


def test_what_does_not_go_together(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,report\nx.png,A mass.\n")
    (tmp_path / "r.txt").write_text("A mass.")
    with pytest.raises(ConfigError, match="which image"):
        read_studies(tmp_path / "r.txt", [tmp_path])
    with pytest.raises(ConfigError, match="need a folder"):
        read_studies(tmp_path / "t.csv", [tmp_path / "x.png"])
    with pytest.raises(ConfigError, match="unknown column 'picture'"):
        read_studies(tmp_path / "t.csv", columns={"picture": "image"})
    with pytest.raises(DataError, match="no image in this folder"):
        read_studies(None, [tmp_path])
    (tmp_path / "r.txt").unlink()
    with pytest.raises(DataError, match="no report in this folder"):
        read_studies(tmp_path)
    with pytest.raises(DataError, match="no such report"):
        read_text(tmp_path / "none.txt")


def test_a_data_set_of_reports(tmp_path: Path) -> None:
    mimic_cxr.write(tmp_path, 8, seed=0, size=32, workers=0)
    records = MIMICCXR(tmp_path).load().records
    studies = studies_of(MIMICCXR(tmp_path))
    assert [study.name for study in studies] == [record.study_id for record in records]
    for study, record in zip(studies, records, strict=True):
        assert study.images == [tmp_path / path for path in record.images]
        told = study.report or ""
        assert f"FINDINGS: {record.findings}" in told or not record.findings
        assert f"IMPRESSION: {record.impression}" in told or not record.impression
        assert (study.report is None) == (not record.text)
    train = [record.study_id for record in records if record.split == "train"]
    assert [study.name for study in studies_of(MIMICCXR(tmp_path), "train")] == train
    assert 0 < len(train) < len(records)
    with pytest.raises(DataError, match="no study with an image in val"):
        studies_of(MIMICCXR(tmp_path, split="test"), "val")
