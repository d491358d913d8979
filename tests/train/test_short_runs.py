"""Short runs of equal compute: budgets against formulas, losses against logs, kept runs against new ones."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from data.sources import read
from evalsuite.run_log import read as read_log
from scaling.errors import UsageError
from tests.train.tradeoffs import ASKED, SEEDS, SMALL, assert_same, held_out, made, written
from train import run as running
from train.tradeoff import tradeoff
from train.vocabulary import BYTES

__all__ = ["made"]


def test_all_runs_have_the_compute_they_were_given(made):
    source, _, result = made
    rows = result.vocabularies
    step = rows["rows"] * rows["context"] * rows["flops_per_token"]
    assert (abs(rows["flops"] - SMALL["flops"]) <= step / 2).all()
    np.testing.assert_allclose(rows["flops"], rows["steps"] * step, rtol=1e-12)
    assert (rows["tokens"] == rows["steps"] * 64).all()
    assert rows["steps"].is_monotonic_decreasing and rows["steps"].nunique() == 3
    # Bytes are tokens but for the ends of documents. Oracle: the training texts, counted.
    held = {text for texts in held_out(source).values() for text in texts}
    texts = {one.text for one in read(source)} - held
    size = sum(len(one.encode()) for one in texts)
    first = rows.iloc[0]
    assert first["epochs"] == pytest.approx(first["tokens"] / (size + len(texts)), rel=1e-12)
    assert first["bytes"] == pytest.approx(first["epochs"] * size, rel=1e-12)


def test_losses_are_those_of_the_logs(made):
    """Oracle: the last validation in the log of each run; over domains, of bytes, weighted by hand."""
    source, folder, result = made
    logs = [read_log(path) for path in folder.glob("runs/*/log.jsonl")]
    last = {(log[-1]["step"], round(log[0]["loss"], 9)): log[-1]["bpb"] for log in logs}
    told = [{"code": row["bpb.code"], "prose": row["bpb.prose"]} for _, row in result.runs.iterrows()]
    assert len(last) == len(told) == len(ASKED) * len(SEEDS)
    assert sorted(map(str, last.values())) == sorted(map(str, told))
    # Nothing predicts the first byte of a domain.
    sizes = {domain: len("".join(texts).encode()) - 1 for domain, texts in held_out(source).items()}
    for _, row in result.runs[result.runs["vocabulary"] == BYTES].iterrows():
        expected = sum(row[f"bpb.{domain}"] * size for domain, size in sizes.items()) / sum(sizes.values())
        assert row["bpb"] == pytest.approx(expected, rel=1e-9)
    means = result.runs.groupby("vocabulary", sort=False)[["bpb", "bpb.code"]]
    np.testing.assert_allclose(result.vocabularies["bpb"], means.mean()["bpb"])
    np.testing.assert_allclose(result.vocabularies["bpb_sd"], means.std()["bpb"])
    code = result.domains[result.domains["domain"] == "code"]
    np.testing.assert_allclose(code["bpb"], means.mean()["bpb.code"])
    assert (result.runs["bpb"] < 8).all()  # bytes at random


def test_a_folder_keeps_what_is_done(made):
    source, folder, result = made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "start", None)  # no run may begin
        patch.setattr("train.shared_text.prepare", None)  # no text be read
        assert_same(result, tradeoff(source, ASKED, seeds=SEEDS, folder=folder, **SMALL))
        less = tradeoff(source, [350], folder=folder, **SMALL)
    row = result.runs[(result.runs["vocabulary"] == "350") & (result.runs["seed"] == 0)]
    assert less.runs["bpb"].tolist() == row["bpb"].tolist() and math.isnan(less.vocabularies["bpb_sd"][0])
    other = tradeoff(source, [350], folder=folder, **SMALL | {"flops": 2e7})
    assert other.vocabularies["steps"][0] < less.vocabularies["steps"][0]


def test_what_was_cut_off_goes_on(made, tmp_path: Path):
    source, _, result = made
    for name in ("vocabulary 300: encoding", "vocabulary 300, seed 0"):

        def cut(done: int, total: int, text: str, name: str = name) -> None:
            if text.startswith(name) and done >= total / 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            tradeoff(source, ASKED, seeds=SEEDS, folder=tmp_path / "kept", progress=cut, **SMALL)
    assert_same(result, tradeoff(source, ASKED, seeds=SEEDS, folder=tmp_path / "kept", **SMALL))


def test_rows_of_equal_bytes(tmp_path: Path):
    result = tradeoff(written(tmp_path / "text.jsonl"), ASKED, train=False, context_bytes=64, **SMALL)
    rows = result.vocabularies
    assert rows["context"][0] > rows["context"][2]
    per_token = rows["context_bytes"] / rows["context"]
    assert (abs(rows["context_bytes"] - 64) <= per_token / 2).all()
    assert (abs(rows["rows"] * rows["context"] - 64) <= rows["context"] / 2).all()


def test_a_budget_in_seconds_is_one_of_equal_compute(tmp_path: Path):
    source = written(tmp_path / "text.jsonl")
    how = {**SMALL, "flops": None, "seconds": 0.1, "folder": tmp_path / "kept"}
    one, other = (tradeoff(source, [300, BYTES], **how) for _ in range(2))
    assert one.flops == other.flops > 0
    assert_same(one, other)
    rows = one.vocabularies
    step = rows["rows"] * rows["context"] * rows["flops_per_token"]
    assert (abs(rows["flops"] - one.flops) <= step / 2).all()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"flops": 1.0}, "vocabulary 300: a step costs .* give more, or fewer rows"),
        ({"flops": -1.0}, "flops: got -1.0, valid is a number above 0"),
        ({"seconds": 3.0}, "both flops and seconds"),
        ({"seeds": ()}, "seeds: got .*, valid is at least one"),
        ({"settings": {"model.context": 8}}, "settings: model.context cannot be set here; give context"),
        ({"settings": {"mixture.code": 1}}, "settings: mixture.code cannot be set here; valid are"),
        ({"settings": {"model.widht": 8}}, "widht: unknown key; did you mean width"),
        ({"preset": "3m"}, "preset '3m': valid are"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, wrong: dict, said: str):
    with pytest.raises(UsageError, match=said):
        tradeoff(written(tmp_path / "text.jsonl"), [300], **SMALL | wrong)
