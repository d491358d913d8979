"""The command `train average`: what it prints, what it writes, and how it fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.train.commands import call, lines_of
from train.checkpoint import write_checkpoint


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of five checkpoints whose weights are their step, beside optimiser state."""
    for step in range(1, 6):
        tensors = {"model": {"w": torch.full((3,), float(step))}, "optimizer": {"m": torch.zeros(9)}}
        write_checkpoint(tmp_path / "run/checkpoints", step, tensors, {})
    return tmp_path / "run"


@pytest.mark.parametrize(
    "options, mean",
    [
        ((), 3.5),
        (("--weights", "linear"), (2 * 1 + 3 * 2 + 4 * 3 + 5 * 4) / 10),
        (("--weights", "ema"), (2 + 3 * 2 + 4 * 4 + 5 * 8) / 15),
        (("--weights", "ema", "--decay", "1"), 3.5),
    ],
)
def test_last_four_checkpoints_of_a_run(run: Path, tmp_path: Path, options: tuple[str, ...], mean: float):
    said = call("average", run, "-o", out := tmp_path / "out.safetensors", *options)
    assert load_file(out)["w"].tolist() == [torch.tensor(mean, dtype=torch.float64).float()] * 3
    rows = lines_of(said.out)
    assert list(rows) == ["checkpoint", *(f"step-{step:09d}" for step in (2, 3, 4, 5))]
    assert [cells[0] for cells in rows.values()] == ["step", "2", "3", "4", "5"]
    assert said.err == f"{out}: 3 parameters in 1 tensors, {out.stat().st_size:,} bytes\n"


def test_named_checkpoints_as_json(run: Path, tmp_path: Path):
    folders = [run / "checkpoints" / f"step-{step:09d}" for step in (1, 4)]
    told = call("average", *folders, "-o", tmp_path / "out.safetensors", "--json").json
    assert told["members"] == [{"name": f"step-{step:09d}", "step": step, "weight": 0.5} for step in (1, 4)]
    assert (told["tensors"], told["parameters"], told["copied"]) == (1, 3, [])
    assert load_file(tmp_path / "out.safetensors")["w"].tolist() == [2.5] * 3


def test_whole_numbers_are_said(tmp_path: Path):
    for i in range(2):
        save_file({"n": torch.tensor(i), "w": torch.tensor(float(i))}, tmp_path / f"{i}.safetensors")
    paths = sorted(tmp_path.glob("*.safetensors"))
    said = call("average", *paths, "-o", tmp_path / "out.safetensors")
    assert said.err.endswith("bytes; 1 of whole numbers are those of the last\n")


@pytest.mark.parametrize(
    "options, code, said",
    [
        (("a.safetensors",), 2, "a mean needs two models or more"),
        (("a.safetensors", "a.safetensors"), 2, "is there twice"),
        (("a.safetensors", "no.safetensors"), 2, "no.safetensors: no such file"),
        (
            ("a.safetensors", "b.safetensors", "--decay", "0.5"),
            2,
            "--decay: means nothing with --weights uni",
        ),
        (("a.safetensors", "b.safetensors", "--weights", "best"), 2, "best"),
        (("a.safetensors", "b.safetensors", "--weights", "ema", "--decay", "2"), 2, "decay 2.0: valid is"),
        (("a.safetensors", "b.safetensors"), 1, "b.safetensors has w as F32 [2], not F32 [1]"),
        (("a.safetensors", "bad.safetensors"), 1, "bad.safetensors: is no safetensors file"),
    ],
)
def test_errors(tmp_path: Path, monkeypatch, options: tuple[str, ...], code: int, said: str):
    monkeypatch.chdir(tmp_path)
    save_file({"w": torch.ones(1)}, "a.safetensors")
    save_file({"w": torch.ones(2)}, "b.safetensors")
    Path("bad.safetensors").write_bytes(b"nothing of the kind")
    told = call("average", *options, "-o", "out.safetensors", code=code)
    assert said in " ".join(told.err.split()) and not told.out
    assert not Path("out.safetensors").exists()


def test_a_file_in_the_way_needs_force(run: Path, tmp_path: Path):
    (out := tmp_path / "out.safetensors").write_text("mine")
    assert "replace it (--force)" in call("average", run, "-o", out, code=1).err
    assert out.read_text() == "mine"
    call("average", run, "-o", out, "--force")
    assert load_file(out)["w"].tolist() == [3.5] * 3
