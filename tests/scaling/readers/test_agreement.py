"""Our reading of the public result sets against an independent one, row for row.

Oracle: the tidy tables in `scores/` of the real inputs, made by somebody else's script. Where they differ
from ours, the tests say by how many rows, and why ours is right.
"""

from __future__ import annotations

import re
import time

import pandas as pd
import pytest

from scaling.readers import read_scores
from scaling.scores import ScoreTable
from scaling.tasks import find_alias

pytestmark = pytest.mark.shared

KEYS = ["model", "step", "variant", "task", "metric", "shots"]


@pytest.fixture(scope="module")
def table(shared) -> ScoreTable:
    start = time.process_time()
    table = read_scores(sorted((shared / "sources").glob("*.tar.zst")))
    assert time.process_time() - start < 60
    return table


@pytest.fixture
def ours(table):
    return lambda *sources: table.frame[table.frame["source"].isin(sources)].copy()


@pytest.fixture
def tidy(shared):
    def read(name: str, *sources: str) -> pd.DataFrame:
        frame = pd.read_parquet(shared / "scores" / f"{name}.parquet")
        frame = frame.rename(columns={"checkpoint_step": "step", "num_fewshot": "shots"})
        frame["variant"] = frame["variant"].astype(object).where(frame["variant"] != "", None)
        return rename(frame, *sources)

    return read


def rename(frame: pd.DataFrame, *sources: str) -> pd.DataFrame:
    names = {
        name: (found.task if (found := find_alias(name, *sources)) else name)
        for name in frame["task"].unique()
    }
    return frame.assign(task=frame["task"].map(names))


def join(ours: pd.DataFrame, tidy: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    parts = []
    for frame in (ours, tidy):
        frame = frame.copy()
        for key in keys:
            frame[key] = frame[key].astype("string").fillna("")
        assert not frame.duplicated(keys).any()
        parts.append(frame)
    return parts[0].merge(parts[1], on=keys, how="outer", suffixes=("", "_tidy"), indicator="side")


def sides(joined: pd.DataFrame) -> dict[str, int]:
    return {str(side): int(count) for side, count in joined["side"].value_counts().items() if count}


def differing(joined: pd.DataFrame, column: str, tolerance: float = 1e-9) -> pd.DataFrame:
    both = joined[(joined["side"] == "both") & joined[f"{column}_tidy"].notna()]
    mine, theirs = both[column].astype(float), both[f"{column}_tidy"].astype(float)
    return both[~((mine - theirs).abs() <= tolerance * theirs.abs().clip(lower=1))]


def test_the_goal(table):
    assert len(table) > 300_000
    assert table.frame.loc[table.frame["flops"] > 0, "model"].nunique() > 70
    assert table.frame["source"].nunique() == 8


def test_pythia(ours, tidy, table):
    joined = join(ours("pythia"), tidy("pythia", "pythia", "lm-eval-0.3"), KEYS)
    assert sides(joined) == {"both": 191_470, "left_only": 15_428}
    for column in ("params", "tokens", "flops"):
        assert differing(joined, column).empty
    # The tidy table kept the 90 misfiled zero-shot re-runs and dropped the originals instead: 201 of its
    # scores are the re-runs', and the 67 tasks that only the originals hold are missing there.
    different = differing(joined, "score")
    misfiled = re.compile(r"pythia-(160m|410m|1\.4b)(-deduped)?@v0")
    assert len(different) == 201
    assert different["model"].map(lambda name: bool(misfiled.fullmatch(name))).all()
    extra = joined[joined["side"] == "left_only"]
    lost = extra[extra["model"].map(lambda name: bool(misfiled.fullmatch(name))) & (extra["variant"] == "")]
    assert lost["task"].nunique() == 67 and lost.groupby(["model", "step"]).ngroups == 90
    # Besides, it leaves out OPT and the bias evaluations of the v0 runs.
    rest = extra.drop(index=lost.index)
    opt = rest["model"].str.startswith("opt-")
    assert opt.sum() == 8 * 128
    assert rest[~opt]["model"].str.endswith("@v0").all()
    assert set(rest[~opt]["variant"]) == {"bias-evals", "intervention", "intervention-long"}
    said = {(item.where, item.count) for item in table.omissions if "config trusted" in item.what}
    assert said == {("pythia", 90)}


def test_lmeval_hist(ours, tidy):
    theirs = tidy("lmeval_hist", "lm-eval-0.3")
    percent = theirs["task"] == "squad2"  # left in percent there
    theirs.loc[percent, "score"] /= 100

    def variant(group: str | None) -> str | None:
        known = [name for name in ("reading_comprehension", "superglue") if group and group.startswith(name)]
        return known[0] if known else None

    theirs["variant"] = theirs["variant"].map(variant)
    joined = join(ours("lmeval_hist"), theirs, KEYS)
    assert sides(joined) == {"both": 3_483}
    assert differing(joined, "score").empty
    # Parameters there are rounded to three digits.
    assert differing(joined, "params", 2e-3).empty and differing(joined, "tokens").empty


def test_olmo_ladder(ours, tidy):
    theirs = tidy("olmo_ladder_190M-1B", "olmo_ladder")
    # `len_norm` is called acc there.
    theirs.loc[(theirs["metric"] == "acc") & (theirs["task"] != "boolq"), "metric"] = "acc_norm"
    joined = join(ours("olmo_ladder"), theirs, ["model", "step", "task", "metric", "shots"])
    assert sides(joined) == {"both": 223_769}
    for column in ("score", "params", "tokens", "flops", "n_items"):
        assert differing(joined, column).empty


def test_openlm_scaling(ours, tidy):
    joined = join(
        ours("openlm_scaling"), tidy("openlm_scaling", "openlm_scaling"), ["model", "task", "metric", "shots"]
    )
    assert sides(joined) == {"both": 5_616}
    for column in ("score", "params", "tokens", "flops"):
        assert differing(joined, column).empty
    # The tidy table copies two wrong numbers of items from the source's metadata.
    wrong = differing(joined, "n_items")
    assert wrong.groupby("task").size().to_dict() == {"arc_challenge": 104, "bbq": 104}
    scores = joined.loc[joined["task"] == "arc_challenge", "score"]
    assert ((scores * 1172) - (scores * 1172).round()).abs().max() < 1e-3  # a whole number right of 1172
    assert ((scores * 2376) - (scores * 2376).round()).abs().max() > 0.4  # not of 2376


def test_gemstones(ours, tidy):
    theirs = tidy("gemstones")
    raw = {"arc_challenge": "arc:challenge", "arc_easy": "arc:easy"}
    items = {"arc_challenge": "arcc", "arc_easy": "arce", "commonsense_qa": "csqa", "openbookqa": "openbook"}
    theirs["task"] = [
        "loss:" + task[3:]
        if task.startswith("lm:")
        else raw.get(task, task)
        if metric == "acc_norm"
        else "losses_" + items.get(task, task)
        for task, metric in zip(theirs["task"], theirs["metric"], strict=True)
    ]
    theirs = rename(theirs, "gemstones")
    mine = ours("gemstones")
    joined = join(mine[mine["variant"].isna()], theirs, ["model", "step", "task", "metric", "shots"])
    # The archive holds 12 of the 6,930 per-item loss files.
    assert sides(joined) == {"both": 9_582, "right_only": 6_918}
    assert set(joined.loc[joined["side"] == "right_only", "metric"]) == {"gold_ce_loss"}
    for column in ("score", "stderr", "params", "tokens", "flops", "n_items"):
        assert differing(joined, column).empty


def test_leaderboards(ours, tidy):
    theirs = tidy("openllm_lb", "openllm_lb")
    theirs.loc[theirs["metric"] == "acc_pct", "score"] /= 100

    def variant(text: str) -> str:
        version, kind, precision, sha = (("?" if part == "nan" else part) for part in text.split("|"))
        return "|".join((version, kind if kind == "?" else re.sub("^[^A-Za-z]*", "", kind), precision, sha))

    theirs["variant"] = theirs["variant"].map(variant)
    joined = join(ours("openllm_lb"), theirs, ["model", "variant", "task", "shots"])
    assert sides(joined) == {"both": 60_588}
    assert differing(joined, "score").empty and differing(joined, "params").empty


def test_obsscaling_and_sloth(ours, tidy):
    theirs = tidy("openmodels")
    theirs["task"] = [
        found.task if (found := find_alias(task, "sloth" if "sloth" in variant else "obsscaling")) else task
        for task, variant in zip(theirs["task"], theirs["variant"], strict=True)
    ]
    theirs["metric"] = theirs["metric"].replace({"elo": "score"})
    mine = ours("obsscaling", "sloth")
    # There, everything but exact match is called acc.
    mine["metric"] = mine["metric"].replace({"acc_norm": "acc", "mc2": "acc", "pass@1": "acc"})
    mine.loc[(mine["metric"] == "exact_match") & (mine["variant"] != "obs_emergent"), "metric"] = "acc"
    joined = join(mine, theirs, ["model", "variant", "task", "metric"])
    assert sides(joined) == {"both": 34_296, "left_only": 219}
    assert set(joined.loc[joined["side"] == "left_only", "variant"]) == {"obs_instruct"}  # not read there
    for column in ("score", "params", "tokens", "flops"):
        assert differing(joined, column).empty


def test_chance_is_what_the_smallest_models_score(ours):
    """Chance of the tasks on which sources disagree, by runs under 5e16 FLOPs."""
    frame = ours("openlm_scaling")
    small = frame[frame["flops"] < 5e16].groupby("task")["score"].mean()
    assert small["commonsense_qa"] == pytest.approx(0.2, abs=0.012)
    assert small["arc_challenge"] < 0.25
    assert small["siqa_2choice"] == pytest.approx(1 - 0.5159, abs=1e-4)
    assert frame.loc[frame["task"] == "siqa_2choice", "score"].max() < 0.53


def test_step_zero_is_kept_with_zero_compute(ours):
    start = ours("pythia").query("step == 0")
    assert len(start) > 1000 and (start["flops"] == 0).all() and (start["tokens"] == 0).all()


def test_the_tidy_tables_read_as_the_same_tasks(shared, table):
    """Both readings put the same numbers under the same task, metric and shots."""
    tidy = read_scores(sorted((shared / "scores").glob("*.parquet"))).frame
    keys = ["source", "model", "step", "task", "metric", "shots"]
    ours = table.frame
    for source, low in (("olmo_ladder", 1.0), ("openlm_scaling", 1.0), ("lmeval_hist", 1.0), ("sloth", 1.0)):
        left = tidy[tidy["source"] == source].drop_duplicates(keys, keep=False)
        joined = join(ours[ours["source"] == source].drop_duplicates(keys, keep=False), left, keys)
        assert len(left) and (joined.loc[joined["side"] != "left_only", "side"] == "both").mean() == low
        assert differing(joined, "score").empty
    assert tidy[tidy["source"] == "openllm_lb"]["score"].between(0, 1).all()
