"""The notebooks as a reader has them: pairs of the same cells that run, warn of nothing, end in a picture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

from tests.notebooks.pairs import FOLDER, SMALL, cells, notebooks

ROOT = FOLDER.parent
LARGEST = 300_000  # bytes of an .ipynb that a web page still shows at once
named = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [one for cell in notebook.cells if cell.cell_type == "code" for one in cell.outputs]


def test_five_stories() -> None:
    assert [path.name[0] for path in notebooks()] == list("12345")


@named
def test_the_pair_holds_the_same_cells(path: Path) -> None:
    """Oracle: the text file; `make notebooks` writes the other from it."""
    other = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    assert cells(other) == cells(jupytext.read(path)), "run make notebooks"


@named
def test_what_is_committed_was_run(path: Path) -> None:
    other = path.with_suffix(".ipynb")
    notebook = nbformat.read(other, as_version=4)
    nbformat.validate(notebook)
    _check(notebook)
    assert other.stat().st_size < LARGEST


@named
def test_tells_a_story(path: Path) -> None:
    """A question, an answer, and one cell that says what is less in small settings."""
    prose = [source for kind, source in cells(jupytext.read(path)) if kind == "markdown"]
    assert prose[0].startswith(f"# {path.name[0]}. ") and "**Question: " in prose[0]
    assert any(one.startswith("## Answer") for one in prose)
    assert sum(SMALL in source for _, source in cells(jupytext.read(path))) == 1


@named
def test_runs_from_start_to_end(path: Path, tmp_path: Path) -> None:
    """As `make notebooks` runs it, with small settings."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.notebooks", "--small", "-o", str(tmp_path), path.name[0]],
        cwd=ROOT, capture_output=True, text=True, timeout=3600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    made = nbformat.read(tmp_path / path.with_suffix(".ipynb").name, as_version=4)
    assert cells(made) == cells(jupytext.read(path))
    _check(made)


def _check(notebook: nbformat.NotebookNode) -> None:
    """Every cell ran, in order; nothing failed, nothing warned; the last one shows a picture."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for one in outputs(notebook):
        assert one.output_type != "error", one
        assert one.get("name") != "stderr", one.text
    assert any("image/png" in one.get("data", {}) for one in code[-1].outputs)
    assert code[-1] is notebook.cells[-1]
