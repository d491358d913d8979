"""The smallest ladder, as a user runs it. Oracles: counts by hand; the same runs done again, bit for bit."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pandas as pd
import pytest

from data.errors import DataError
from data.prepared import Prepared
from scaling.embedded import AVERAGED, RAW, ladder
from scaling.errors import StagewiseError, UsageError
from scaling.scores import ScoreTable
from tests.train.commands import call
from train.config import DeviceConfig
from train.ladder import version
from train.ladder.climb import Place
from train.ladder.presets import preset
from train.ladder.text import sources
from train.ladder.verify import compared, verify

RUN = "0.01m-code-6k-s0"


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """A ladder that was run to its end."""
    folder = tmp_path_factory.mktemp("ladder") / "smoke"
    said = call("ladder", "smoke", "-o", folder)
    assert "8 runs, 8 to do" in said.err and "FLOPs each" in said.err and "evaluation" in said.err
    assert "of 8 runs" in said.out
    return folder


def opened(folder: Path) -> Place:
    return Place.open(folder, preset("smoke"), None, (), DeviceConfig(device="cpu", threads=1))


def test_the_table(done):
    table = ScoreTable.read(done / "ladder.parquet").frame
    place = opened(done)
    tasks = len(place.questions.tasks)
    assert len(place.cells) == 8 == table["model"].nunique()
    assert len(table[["model", "step", "task"]].drop_duplicates()) == 8 * 3 * tasks
    assert set(table["source"]) == {AVERAGED, RAW}
    assert set(table["family"]) == {"even", "code", "maths", "prose", "skills", "no-skills"}
    for column in ("step", "params", "tokens", "flops", "seed", "stderr", "n_items"):
        assert table[column].notna().all(), column
    ends = table.groupby("model")["step"].nunique()
    assert (ends == 3).all()
    counted = {cell.name: place.config(cell).length * cell.rows * 64 for cell in place.cells}
    assert table.groupby("model")["tokens"].max().astype(int).to_dict() == counted


def test_the_card(done):
    card = (done / "ladder.md").read_text(encoding="utf-8")
    table = ScoreTable.read(done / "ladder.parquet")
    assert table.digest in card and f"{len(table):,} scores of 8 runs" in card
    assert re.search(r"Of [1-9]\d* questions asked about skills\s+0 stand in the text word for word", card)
    assert "| 0.01m |" in card and "even (2)" in card and "Known limits" in card


def test_what_is_done_is_kept(done, tmp_path):
    folder = Path(shutil.copytree(done, tmp_path / "again"))
    before = (folder / "ladder.parquet").read_bytes()
    for end in ("json", "parquet"):
        (folder / "scores" / f"{RUN}.{end}").unlink()
    said = call("ladder", "smoke", "-o", folder)
    assert "8 runs, 1 to do" in said.err and RUN in said.err
    assert (folder / "ladder.parquet").read_bytes() == before
    assert not list((folder / "runs").iterdir())


def test_two_at_a_time_give_the_same(done, tmp_path):
    folder = Path(shutil.copytree(done, tmp_path / "two"))
    for path in (folder / "scores").glob("0.01m-even*"):
        path.unlink()
    call("ladder", "smoke", "-o", folder, "--jobs", "2")
    assert (folder / "ladder.parquet").read_bytes() == (done / "ladder.parquet").read_bytes()


def test_a_run_done_again_has_the_same_scores(done):
    said = call("ladder", "smoke", "-o", done, "--verify", RUN, "--scores", done / "ladder.parquet", "--json")
    assert f"{RUN}: all" in said.err and "are the same" in said.err
    rows = pd.DataFrame(said.json)
    assert (rows["rows"] == rows["equal"]).all() and (rows["largest"] == 0).all()
    assert (done / "scores" / f"{RUN}.json").is_file()  # what was kept stays


def test_other_scores_are_found_out(done, tmp_path):
    table = ScoreTable.read(done / "ladder.parquet")
    once = table.frame[table.frame["model"] == RUN]
    frame = once.assign(score=once["score"].where(once["metric"] != "bpb", 1.0)).reset_index(drop=True)
    ScoreTable(frame).write(tmp_path / "other.parquet")
    said = call(
        "ladder", "smoke", "-o", done, "--verify", RUN, "--scores", tmp_path / "other.parquet", code=1
    )
    assert "mean differences are above" in said.err
    with pytest.raises(StagewiseError, match="in one table only"):
        compared(RUN, once, once[once["step"] != once["step"].min()])
    near = once.assign(score=once["score"] + 0.005)
    found = compared(RUN, once, near)
    assert (
        found.within and not found.exact and found.differences["mean"].tolist() == pytest.approx([0.005] * 10)
    )
    other = once[once["metric"] == "brier"]
    assert not compared(RUN, other, other.assign(score=9.0)).within  # nothing that has a tolerance
    with pytest.raises(StagewiseError, match="not among the scores kept"):
        verify(opened(done), "0.01m-even-6k-s0", ScoreTable(frame))


def test_another_seed_is_found_out():
    """Oracle: two runs of the committed ladder that differ in nothing but their seed."""
    frame = ladder("averaged").frame
    one, other = (frame[frame["model"] == f"0.03m-code-200k-s{seed}"] for seed in (0, 1))
    assert compared("s0", one, one).exact
    assert not compared("s0", one, other.assign(model=one["model"].iloc[0], seed=0)).within


def test_wrong_calls(done, tmp_path):
    assert "valid are smoke, cpu, gpu" in call("ladder", "tiny", "-o", tmp_path / "x", code=2).err
    with pytest.raises(UsageError, match="its runs are"):
        opened(done).cell("7b-even-s0")
    assert "put it back, or start a run in another folder" in call("ladder", "cpu", "-o", done, code=1).err


def test_the_plan_alone(done):
    rows = call("ladder", "smoke", "-o", done, "--plan", "--json").json
    assert [row["runs"] for row in rows] == [7, 1] and all(row["hours"] > 0 for row in rows)


def test_practised_skills_are_no_items(done):
    """What is trained on holds no question that is asked."""
    prepared = Prepared.read(done / "tokens")
    text = "\n".join(
        prepared.tokenizer.decode(tokens.read(0, len(tokens)).tolist())
        for tokens in prepared.tokens("train").values()
    )
    for path in (done / "tasks").glob("skill_*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            assert item["context"].strip() not in text or len(item["context"].strip()) < 8, item


def test_a_wrong_corpus_leaves_no_trace(tmp_path):
    said = call("ladder", "smoke", "--corpus", tmp_path / "typo", "-o", tmp_path / "x", code=1)
    assert "typo" in said.err and not (tmp_path / "x").exists()


def test_two_files_of_one_domain(tmp_path):
    for name in ("a.jsonl", "a.jsonl.gz", "b.jsonl"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"a\.jsonl and a\.jsonl\.gz are both of a|gz and a\.jsonl are both"):
        sources(tmp_path, 1000)


def test_which_code_measured(tmp_path):
    """Oracle: git itself, in this checkout; beneath another repository nothing is said."""
    top = Path(version.__file__).resolve().parents[2]
    asked = ["git", "-C", str(top), "rev-parse", "HEAD"]
    if (top / ".git").exists():
        head = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        assert version.commit().removesuffix("-dirty") == head
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    folder = tmp_path / "site-packages" / "train" / "ladder"
    folder.mkdir(parents=True)
    shutil.copy(version.__file__, folder / "version.py")
    spec = spec_from_file_location("elsewhere", folder / "version.py")
    elsewhere = module_from_spec(spec)
    spec.loader.exec_module(elsewhere)
    assert elsewhere.commit() == ""


def test_a_corpus_of_files(tmp_path):
    for name in ("a.jsonl", "a.val.jsonl", "b.jsonl.zst", "other.val.jsonl"):
        (tmp_path / name).touch()
    found = sources(tmp_path, 1000)
    assert [(one.domain, one.held_out) for one in found] == [
        ("a", False), ("b", False), ("a", True), ("code", False), (None, False)
    ]  # fmt: skip
    assert found[-2].path.startswith("installed:") and found[-1].path == "embedded:skills"
