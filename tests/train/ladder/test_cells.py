"""Runs of a grid and their mixtures. Oracle: counts and weights by hand."""

from __future__ import annotations

import math

import pytest

from scaling.errors import UsageError
from train.config import ModelSection, RunConfig
from train.ladder.cells import Cell, mixtures
from train.ladder.presets import PRESETS, preset
from train.sizes import preset as shape
from train.sizes import size_of

DOMAINS = ("children", "code", "dialogue", "math", "prose", "skills", "textbook", "webdocs")


def test_mixtures():
    found = mixtures(["skills", "code", "prose"])
    assert list(found) == ["even", "code", "prose", "skills", "no-code", "no-prose", "no-skills"]
    assert found["prose"] == {"code": 0.25, "prose": 0.5, "skills": 0.25}
    assert found["no-code"] == {"prose": 0.5, "skills": 0.5}
    for weights in found.values():
        assert math.fsum(weights.values()) == pytest.approx(1)
    with pytest.raises(UsageError, match="two or more"):
        mixtures(["code"])
    for name in ("even", "no-code"):
        with pytest.raises(UsageError, match=f"'{name}' has the name of a mixture"):
            mixtures(["code", name])


def test_a_cell_says_what_its_run_is():
    cell = Cell("0.1m", "code", 3, 5e5, rows=8, mtp=1)
    assert (cell.name, cell.family) == ("0.1m-code-mtp-500k-s3", "code-mtp")
    base = RunConfig(steps=1, model=ModelSection(context=256))
    made = cell.config(base, DOMAINS, checkpoints=15, raw=3, tasks=["skill_copy"])
    every = round(5e5 / (8 * 256 * 15))
    assert (made.length, made.eval.every, made.eval.raw, made.seed) == (15 * every, every, 3, 3)
    assert made.mixture["code"] == 0.5 and made.mtp.depth == 1 and made.schedule.kind == "constant"
    assert made.length % made.checkpoint.every == 0  # the last one is no extra


@pytest.mark.parametrize("name", PRESETS)
def test_runs_have_names_of_their_own(name):
    cells = preset(name).cells(DOMAINS)
    assert len({cell.name for cell in cells}) == len(cells)
    assert {cell.mixture for cell in cells} <= set(mixtures(DOMAINS))


def test_what_the_ladder_for_two_cores_is():
    ladder = preset("cpu")
    cells = ladder.cells(DOMAINS)
    flops = {
        cell.name: cell.tokens
        * size_of(shape(cell.size, vocab_size=ladder.vocabulary, context_length=256), 256).training
        for cell in cells
    }
    assert len(cells) > 70 and len({cell.size for cell in cells}) == 6 and ladder.checkpoints >= 15
    assert max(flops.values()) / min(flops.values()) > 1e3
    both = [
        size
        for size in {cell.size for cell in cells}
        if len({c.family for c in cells if c.size == size and not c.mtp and c.seed == 1}) >= 10
    ]
    assert len(both) >= 2  # ten mixtures with two seeds: 45 pairs


def test_an_unknown_ladder():
    with pytest.raises(UsageError, match="valid are smoke, cpu, gpu"):
        preset("tpu")
