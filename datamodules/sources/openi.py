"""Open-i (Indiana University): chest X-rays as PNG with reports as XML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from datamodules.records import Problem, ReportRecord
from datamodules.sources.reporting import ReportSource, Views
from datamodules.sources.rows import stream_columns
from datamodules.sources.splits import SplitRule
from datamodules.sources.temporal import Temporal
from medvl.errors import DataError
from medvl.text.sections import one_line

REPORTS, PROJECTIONS = "ecgen-radiology", "indiana_projections.csv"
_NUMBER = re.compile(r"CXR(\d+)_")
_TWICE = re.compile(r"^(CXR(\d+))_\2(?=_)")  # CXR1_1_IM-0001-3001 is 1_IM-0001-3001 in the table of views
_LARGEST = 1 << 20  # bytes of a report; those of Open-i have some thousands


class OpenI(ReportSource):
    """Open-i as the NLM gives it: `ecgen-radiology/1.xml` ... and `CXR1_1_IM-0001-3001.png` ....

    One XML is one study of one patient; there is no split, so patients are dealt (see `Source`). The distribution does
    not tell the views: they come from `indiana_projections.csv` where that file (of the Kaggle form) lies in the
    folder, and all images are taken where it does not. `XXXX`, where something was taken out, stays in the texts.
    Labels are the headings of the MeSH codes, such as `Opacity` of `Opacity/lung/base/left`; `normal` is one.

    Args:
        root: The folder that holds `ecgen-radiology`.
        images: The folder of the PNG images; `root` by default, or `NLMCXR_png` in it.
        views: `frontal` or `all`, where views are known.
        temporal: What is done with wording that compares with an earlier study: `keep`, `cut` or `drop`.
        unpaired: Whether studies without an image (in these views) or without a text count.
        split: Whose splits count: `auto`, `column`, `deal`, or one for all (see `Source`).
        quarantine: A list of rows and images to leave out, from `medvl data check`.
        follow_links: Whether symbolic links may leave the folder of images.
    """

    name = "openi"
    cohort = "openi"

    def __init__(
        self,
        root: str | Path,
        images: str | Path | None = None,
        views: Views = "frontal",
        temporal: Temporal = "keep",
        unpaired: bool = False,
        split: SplitRule = "auto",
        quarantine: str | Path | None = None,
        follow_links: bool = False,
    ) -> None:
        super().__init__(
            views=views,
            temporal=temporal,
            unpaired=unpaired,
            split=split,
            quarantine=quarantine,
            follow_links=follow_links,
        )
        self.given = Path(root).expanduser()
        beside = self.given / "NLMCXR_png"
        self._images = Path(images).expanduser() if images else beside if beside.is_dir() else self.given

    @property
    def root(self) -> Path:
        """The folder of the images."""
        return self._images

    def tables(self) -> list[Path]:
        """Return the table of views, if there is one, and the reports by number."""
        folder = self.given / REPORTS if (self.given / REPORTS).is_dir() else self.given
        found = sorted((path for path in folder.glob("*.xml") if path.stem.isdigit()), key=lambda path: int(path.stem))
        if not found:
            hint = f"expected {REPORTS}/1.xml and so on, from NLMCXR_reports.tgz"
            raise DataError("no report of Open-i is here", where=str(self.given), hint=hint)
        views = self.given / PROJECTIONS
        return [*([views] if views.is_file() else []), *found]

    def candidates(self) -> Iterator[ReportRecord | Problem]:
        """Yield every study, or its problem, and remarks on images left out."""
        views = self._views()
        for path in self.tables():
            if path.suffix == ".xml":
                yield from self._study(path, views)
        yield from self._orphans()

    def _orphans(self) -> Iterator[Problem]:
        """Remark how many images lie here whose report does not."""
        known = {path.stem for path in self.tables() if path.suffix == ".xml"}
        numbers = (_NUMBER.match(path.name) for path in self.root.glob("CXR*.png"))
        orphans = sum(found[1] not in known for found in numbers if found)
        if orphans:
            message = f"{orphans} images are here whose report is not"
            yield Problem("report-missing", self.root.name, message, fatal=False)

    def _views(self) -> dict[str, str] | None:
        """Return the view of every image of the Kaggle form; None where nothing tells them."""
        path = self.given / PROJECTIONS
        if not path.is_file():
            return None
        # Names there are 1_IM-0001-4001.dcm.png, without CXR.
        return {f"CXR{name.split('.')[0]}": view for _, name, view in stream_columns(path, "filename", "projection")}

    def _study(self, path: Path, views: dict[str, str] | None) -> Iterator[ReportRecord | Problem]:
        try:
            content = path.read_bytes()
            if len(content) > _LARGEST:
                raise ElementTree.ParseError("too large")
            tree = ElementTree.fromstring(content, ElementTree.XMLParser(target=_Plain()))  # noqa: S314 - no entities
        except (OSError, ElementTree.ParseError) as error:
            yield Problem("report-unreadable", path.name, f"the XML cannot be read: {error}"[:120])
            return
        uid = tree.find("uId")
        study = (uid.get("id") if uid is not None else None) or f"CXR{path.stem}"
        named = [name for image in tree.iter("parentImage") if (name := image.get("id"))]
        known = [
            (f"{name}.png", "frontal" if views is None else views.get(_TWICE.sub(r"\1", name), "")) for name in named
        ]
        images, view, notes = self.seen(known, path.name)
        yield from notes
        parts = {
            (text.get("Label") or "").lower(): one_line("".join(text.itertext())) for text in tree.iter("AbstractText")
        }
        labels = {heading: 1 for code in tree.iterfind("MeSH/major") if (heading := _heading(code.text or ""))}
        yield ReportRecord(
            images=images,
            patient_id=study,
            study_id=study,
            split="",
            source=self.name,
            findings=parts.get("findings", ""),
            impression=parts.get("impression", ""),
            labels=labels,
            attributes={"view": view} if view and views is not None else {},
            row=path.name,
        )


class _Plain(ElementTree.TreeBuilder):
    """Builds a tree of XML without a document type: without entities, which can grow without end or name files."""

    def doctype(self, name: str, pubid: str, system: str) -> None:
        """Refuse, in whatever encoding it is written; called before anything in it is read."""
        raise ElementTree.ParseError("it declares a document type, which may hold entities")


def _heading(code: str) -> str:
    return re.split(r"[/*]", code.strip(), maxsplit=1)[0].strip()
