"""A notebook: a text file in jupytext's percent format, and an .ipynb of the same cells with outputs."""

from __future__ import annotations

import base64
import io
import os
import time
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

from scaling.files import replacing

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
SMALL = "STAGEWISE_NOTEBOOK_SMALL"
LONGEST = 3600  # seconds that a cell may take, on however busy a machine
COLOURS = 256  # of a picture: as good to the eye, at a third of the size
_TRANSIENT = ("execution", "collapsed", "scrolled", "trusted")  # of a cell, as editors leave it behind


def notebooks() -> list[Path]:
    """The text files, in order of their numbers."""
    return sorted(FOLDER.glob("[0-9]_*.py"))


def cells(notebook: NotebookNode) -> list[tuple[str, str]]:
    """Kind and source of each cell."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


@dataclass(frozen=True)
class Executed:
    """A notebook that was run.

    Attributes:
        notebook: with what it put out. seconds: on the clock.
    """

    notebook: NotebookNode
    seconds: float


def execute(path: Path, *, small: bool = False) -> Executed:
    """Run the notebook of a text file in a kernel of its own, in the folder of the file.

    What is written does not depend on when it was run: no times, and the ids of cells are their numbers.

    Args:
        path: the text file. small: with the small settings of its second cell.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = jupytext.read(path)
    begun = time.perf_counter()
    client = NotebookClient(
        notebook, timeout=LONGEST, kernel_name="python3", record_timing=False,
        resources={"metadata": {"path": str(path.parent)}}, extra_arguments=["--log-level=ERROR"],
    )  # fmt: skip
    client.execute(env=os.environ | {SMALL: "1" if small else "0"})
    seconds = time.perf_counter() - begun
    for number, cell in enumerate(notebook.cells, 1):
        cell["id"] = f"cell-{number:02d}"
        for name in _TRANSIENT:
            cell.metadata.pop(name, None)
        for one in cell.get("outputs", ()):
            if "image/png" in one.get("data", {}):
                one.data["image/png"] = _lighter(one.data["image/png"])
    notebook.metadata.get("language_info", {}).pop("version", None)
    return Executed(notebook, seconds)


def write(notebook: NotebookNode, path: Path) -> None:
    """Write the .ipynb, whole or not at all."""
    with replacing(path) as part:
        part.write_text(nbformat.writes(notebook, version=4), encoding="utf-8")


def _lighter(picture: str) -> str:
    """A PNG in base64, with a palette."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        few = image.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(out, "png", optimize=True)
    return base64.b64encode(out.getvalue()).decode()
