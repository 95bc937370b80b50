"""The cells of a table as text: the first sheet of an ``.xlsx`` (ECMA-376), or a ``.csv``.

Enough for a list that people typed: no dates, no formulas that were never computed.
"""

import csv
import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

from training.datasets.bigfacex.recording import DatasetError

MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def read_rows(path: Path) -> list[list[str]]:
    """Read all rows; an empty cell is an empty string.

    Raises:
        DatasetError: the file is neither of the two.
    """
    try:
        return _xlsx(path) if path.suffix.lower() == ".xlsx" else _csv(path)
    except (zipfile.BadZipFile, KeyError, IndexError, ET.ParseError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read as a spreadsheet: {error}") from error


def _csv(path: Path) -> list[list[str]]:
    # What counts is plain ASCII; a name in another encoding must not stop it.
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    # Excel separates by semicolons where the comma is the decimal sign, as in Turkey.
    return list(csv.reader(text.splitlines(), delimiter=";" if text.count(";") > text.count(",") else ","))


def _xlsx(path: Path) -> list[list[str]]:
    with zipfile.ZipFile(path) as book:
        shared: list[str] = []
        if "xl/sharedStrings.xml" in book.namelist():
            shared = [_text(item) for item in _parse(book.read("xl/sharedStrings.xml")).iter(f"{MAIN}si")]
        sheet = _parse(book.read("xl/worksheets/sheet1.xml"))
    rows = []
    for row in sheet.iter(f"{MAIN}row"):
        cells: dict[int, str] = {}
        for cell in row.iter(f"{MAIN}c"):
            # Empty cells are not stored; one without a reference follows the one before it.
            cells[_column(cell.get("r")) or max(cells, default=0) + 1] = _value(cell, shared)
        rows.append([cells.get(column, "") for column in range(1, max(cells, default=0) + 1)])
    return rows


def _parse(xml: bytes) -> ET.Element:
    return ET.fromstring(xml)  # noqa: S314 - a file the user names; expat bounds the expansion of entities


def _text(item: ET.Element) -> str:
    """Join the runs of a string; those that tell its pronunciation do not count."""
    runs = [*item.findall(f"{MAIN}t"), *item.findall(f"{MAIN}r/{MAIN}t")]
    return "".join(run.text or "" for run in runs)


def _column(reference: str | None) -> int:
    """Count columns from 1: ``D7`` lies in the fourth; 0 without a reference."""
    number = 0
    for letter in re.sub(r"[^A-Z]", "", reference or ""):
        number = 26 * number + ord(letter) - ord("A") + 1
    return number


def _value(cell: ET.Element, shared: list[str]) -> str:
    if cell.get("t") == "inlineStr":
        return "".join(_text(item) for item in cell.iter(f"{MAIN}is"))
    value = cell.findtext(f"{MAIN}v") or ""
    return shared[int(value)] if cell.get("t") == "s" and value else value
