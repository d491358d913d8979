"""Runs in their folders: what is there afterwards, what is refused, and branches."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.errors import DataError
from data.prepared import Prepared
from evalsuite.run_log import read
from scaling.errors import StagewiseError, UsageError
from tests.train import runs
from tests.train.runs import CHANGING, EVERY, STEPS, at, config, data, files, lines, losses, same, steps_of
from train.checkpoint import Checkpoint
from train.config import RunConfig, read_config
from train.lock import LOCK
from train.loop import CHECKPOINTS, LOG
from train.plan import Plan
from train.record import RECORD
from train.run import CONFIG

__all__ = ["data"]


@pytest.fixture(scope="module")
def plain(data) -> RunConfig:
    return config(data, **CHANGING)


@pytest.fixture(scope="module")
def base(plain, tmp_path_factory) -> Path:
    """A finished run: flat from step 2 to 14, then down to 0."""
    folder = tmp_path_factory.mktemp("base") / "run"
    runs.start(folder, plain)
    return folder


def own(text: Path, **more: Any) -> RunConfig:
    """A run that makes its tokens itself."""
    told = {"data__tokenizer": "bytes", "data__overlap": False, "data__sources": [str(text)]}
    return config(None, **told | more)


# --- a run --------------------------------------------------------------------------------------------


def test_what_a_run_leaves(base, plain, data):
    assert {path.name for path in base.iterdir()} == {CONFIG, LOG, CHECKPOINTS, LOCK, RECORD}
    # Every third; the newest five are kept.
    assert steps_of(base) == [6, 9, 12, 15, 18]
    there = {path.name for path in (base / CHECKPOINTS).iterdir()}
    assert there == {at(base, step).name for step in steps_of(base)}
    for step in steps_of(base):
        Checkpoint(at(base, step), step).verify()
    told = lines(base)
    assert [(one["step"], one["kind"]) for one in told] == [
        pair
        for step in range(1, STEPS + 1)
        for pair in [(step, "train"), *([(step, "validation")] if step % 6 == 0 else [])]
    ]
    state = Checkpoint(at(base, STEPS), STEPS).state
    prepared = Prepared.read(data)
    assert (state["data"], state["tokenizer"]) == (prepared.digest, prepared.tokenizer.digest)
    assert (state["step"], state["tokens"]) == (STEPS, STEPS * 4 * 16)


def test_what_the_log_says(base, plain, data):
    """Oracle: the plan, and the model's size."""
    plan = Plan.of(plain, Prepared.read(data))
    for one in read(base / LOG):
        if one["kind"] == "validation":
            assert set(one["bpb"]) == {"code", "maths", "prose"}
            assert all(0 < x < 10 for x in one["bpb"].values())
            continue
        done = one["step"]
        assert one["rate"] == plan.schedule.at(done - 1)
        assert one["phase"] == (done > 8)
        assert one["tokens"] == done * 4 * 16
        assert one["flops"] == pytest.approx(done * 4 * 16 * plan.size.training)
        assert one["norm"] > 0 and len(one["mtp"]) == 1 and "skipped" not in one
        assert one["speed"]["peak_share"] == pytest.approx(
            one["speed"]["tokens_per_second"] * plan.size.training / 1e12
        )


def test_it_learns(base):
    told = losses(base)
    assert told[0][0] == pytest.approx(5.55, abs=0.1)  # ln 257: it knows nothing
    assert told[-1][0] < told[0][0] - 0.5 and told[-1][1] < told[0][1] - 0.5


def test_the_config_it_leaves_is_the_run(base, plain, data, tmp_path):
    """All that follows from others is filled in; a run from that file is the same run."""
    told = read_config(base / CONFIG)
    assert told == Plan.of(plain, Prepared.read(data)).config
    assert told.optim.lr == 0.004 and told.steps == STEPS and told.mixture["maths"] == 0.3
    runs.start(tmp_path / "again", told)
    same(tmp_path / "again", base)
    assert (tmp_path / "again" / CONFIG).read_bytes() == (base / CONFIG).read_bytes()


def test_what_it_returns_and_tells(plain, data, tmp_path):
    said, told = [], []
    outcome = runs.start(tmp_path / "run", plain, progress=lambda *one: told.append(one), say=said.append)
    assert said[0].startswith(
        "8,272 parameters (4,160 in blocks) and 4,704 for multi-token prediction; 1,152 tok"
    )
    drawn = Plan.of(plain, Prepared.read(data)).batches().repetitions()
    assert len(said) == 1 + drawn["domain"].nunique()
    for line, (domain, rows) in zip(said[1:], drawn.groupby("domain"), strict=True):
        assert line.startswith(f"{domain}: {rows['tokens'].iloc[0]:,} tokens; epochs: ")
        assert all(f"{one:.2g} in steps" in line for one in rows["epochs"] if one)
    assert [one[:2] for one in told] == [(step, STEPS) for step in range(1, STEPS + 1)]
    assert all("loss " in one[2] and "tok/s" in one[2] and "of peak" in one[2] for one in told)
    size = Plan.of(plain, Prepared.read(data)).size
    assert (outcome.step, outcome.steps, outcome.stopped, outcome.skipped) == (STEPS, STEPS, "", 0)
    assert (outcome.tokens, outcome.flops) == (STEPS * 64, STEPS * 64 * size.training)
    bpb = lines(tmp_path / "run")[-1]["bpb"]
    assert {name: one.bpb for name, one in outcome.losses.items()} == bpb


def test_another_seed_is_another_run(base, plain, tmp_path):
    runs.start(tmp_path / "run", replace(plain, seed=1))
    assert losses(tmp_path / "run")[0] != losses(base)[0]


def test_a_length_in_tokens(data, tmp_path):
    """Rounded up to whole steps of 64 tokens."""
    told = replace(config(data, schedule__warmup=0.0), steps=None, tokens=65.0)
    assert runs.start(tmp_path / "run", told).step == 2
    assert steps_of(tmp_path / "run") == [2]


def test_checkpoints_kept_for_good(data, tmp_path):
    runs.start(tmp_path / "run", config(data, checkpoint__every=2, checkpoint__keep_every=4))
    assert steps_of(tmp_path / "run") == [4, 8, 10, 12, 14, 16, 18]


def test_without_held_out_text(tmp_path):
    told = own(runs.corpus(tmp_path / "text.jsonl"), steps=6, data__held_out=0.0)
    assert runs.start(tmp_path / "run", told).losses == {}
    assert "bpb" not in lines(tmp_path / "run")[-1] or lines(tmp_path / "run")[-1]["bpb"] == {}


def test_tokens_of_its_own(tmp_path):
    """The tokens that a run makes stay in its folder, and are those it is resumed with."""
    text = runs.corpus(tmp_path / "text.jsonl")
    told = own(text, data__tokenizer=300, steps=EVERY)
    runs.start(tmp_path / "run", told)
    prepared = Prepared.read(tmp_path / "run/data")
    assert prepared.tokenizer.size == 300 and prepared.domains == ("code", "maths", "prose")
    text.unlink()  # no longer needed
    assert runs.resume(tmp_path / "run").step == EVERY


def test_a_tracker_hears_it(data, tmp_path, monkeypatch):
    heard: list[tuple[Any, int]] = []

    class Heard:
        def log(self, values: dict[str, float], step: int, axes: dict[str, float]) -> None:
            heard.append((values, step))
            assert axes["tokens"] == step * 64

        def close(self) -> None:
            heard.append(("closed", 0))

    monkeypatch.setattr("train.run._sinks", lambda *_: Heard())
    runs.start(tmp_path / "run", config(data, steps=6))
    assert [step for _, step in heard] == [1, 2, 3, 4, 5, 6, 6, 0] and heard[-1][0] == "closed"
    told = lines(tmp_path / "run")
    assert heard[0][0]["train/loss"] == told[0]["loss"]
    assert heard[6][0]["validation/code"] == told[-1]["bpb"]["code"]


# --- refused ------------------------------------------------------------------------------------------


def test_a_folder_that_holds_a_run(base, plain):
    before = files(at(base, STEPS)), (base / LOG).read_bytes(), (base / CONFIG).read_bytes()
    with pytest.raises(UsageError, match=f"{base}: holds a run; go on with `train resume {base}`, or"):
        runs.start(base, replace(plain, seed=1))
    assert (files(at(base, STEPS)), (base / LOG).read_bytes(), (base / CONFIG).read_bytes()) == before


def test_a_folder_that_holds_checkpoints_alone(base, plain, tmp_path):
    shutil.copytree(base / CHECKPOINTS, tmp_path / CHECKPOINTS)
    with pytest.raises(UsageError, match="holds a run"):
        runs.start(tmp_path, plain)


REFUSED = {
    "unknown domain": ({"mixture.latin": 0.5, "mixture.code": 0.5}, "latin"),
    "no weight at all": ({"mixture.code": 0.0}, "code|weight"),
    "weight in words": ({"mixture.code": "much"}, "much"),
    "mtp weight in words": ({"mtp.depth": 1, "mtp.weight": "much"}, "much"),
    "mtp too deep": ({"mtp.depth": 16}, r"mtp\.depth is 16, valid is below model\.context, 16"),
    "too long a warmup": ({"schedule.warmup": 10.0, "schedule.decay": 10.0}, "10 steps of warmup and 10"),
    "odd heads": ({"model.head_width": 7}, "even"),
    "no such preset": ({"model.preset": "0.2m"}, r"did you mean '0\.\dm'"),
    "no such device": ({"device.device": "abacus"}, "abacus"),
    "row longer than a domain": ({"model.context": 5000}, "domain '.*': .* tokens, a row takes 5001"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_cannot_be(data, tmp_path, case):
    """Before the first step, with nothing in the folder that stands in the way of the next attempt."""
    more, message = REFUSED[case]
    with pytest.raises((StagewiseError, DataError), match=message):
        runs.start(tmp_path / "run", config(data, **more))
    assert not (tmp_path / "run" / CONFIG).exists() and not (tmp_path / "run" / LOG).exists()
    assert runs.start(tmp_path / "run", config(data, steps=3)).step == 3


def test_a_domain_too_short_for_a_row(tmp_path):
    text = runs.corpus(tmp_path / "text.jsonl")
    with open(text, "a", encoding="utf-8") as handle:
        handle.write(json.dumps({"text": "short", "domain": "tiny"}) + "\n")
    told = own(text, steps=3)
    with pytest.raises(DataError, match=r"domain 'tiny': has weight .* and 6 tokens, a row takes 17"):
        runs.start(tmp_path / "run", told)
    # As it says: without weight it does no harm, and the tokens need not be made again.
    weights = {"code": 1.0, "maths": 1.0, "prose": 1.0, "tiny": 0.0}
    assert runs.start(tmp_path / "run", replace(told, mixture=weights)).step == 3


def test_no_text(tmp_path):
    (tmp_path / "text.jsonl").touch()
    told = own(tmp_path / "text.jsonl")
    with pytest.raises(DataError, match=r"text\.jsonl"):
        runs.start(tmp_path / "run", told)


def test_a_folder_without_tokens(tmp_path):
    with pytest.raises(DataError, match=r"holds no data\.json"):
        runs.start(tmp_path / "run", config(tmp_path))


# --- branches -----------------------------------------------------------------------------------------


def test_a_branch_is_the_shorter_run(base, data, tmp_path):
    """Oracle: a run of 15 steps whose rate falls over the last 6, with the changes of the longer one."""
    more = {"steps": 15, "schedule.decay": 6.0, **_in_steps()}
    runs.start(tmp_path / "plain", config(data, **more))
    outcome = runs.anneal(at(base, 9), 6, tmp_path / "branch")
    assert (outcome.step, outcome.steps, outcome.stopped) == (15, 15, "")
    ours, theirs = files(at(tmp_path / "branch", 15)), files(at(tmp_path / "plain", 15))
    assert [name for name in ours if ours[name] != theirs.get(name)] == []
    assert lines(tmp_path / "branch") == [one for one in lines(tmp_path / "plain") if one["step"] > 9]
    assert [one["rate"] for one in lines(tmp_path / "branch") if one["kind"] == "train"][-1] == 0.0


def test_a_branch_leaves_the_run_alone(base, tmp_path):
    before = {path: path.read_bytes() for path in base.rglob("*") if path.is_file()}
    runs.anneal(at(base, 9), 3, tmp_path / "branch")
    assert {path: path.read_bytes() for path in base.rglob("*") if path.is_file()} == before
    assert files(at(tmp_path / "branch", 9)) == files(at(base, 9))


def test_a_branch_is_taken_up_again(base, tmp_path):
    runs.anneal(at(base, 9), 6, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    shutil.rmtree(at(tmp_path / "run", 15))
    assert runs.resume(tmp_path / "run").step == 15
    same(tmp_path / "run", tmp_path / "whole", 15)
    for step in (15, 12):
        shutil.rmtree(at(tmp_path / "run", step))
    runs.resume(tmp_path / "run")  # from the copy of the checkpoint it began with
    same(tmp_path / "run", tmp_path / "whole", 15)


def test_a_branch_of_tokens_within_the_run(tmp_path):
    text = runs.corpus(tmp_path / "text.jsonl")
    told = own(text, steps=9)
    runs.start(tmp_path / "run", told)
    assert runs.anneal(at(tmp_path / "run", 3), 2, tmp_path / "branch").step == 5


def test_a_branch_with_a_mixture(base, data, tmp_path):
    """It reads the domains it is told, and nothing that the run had read before: no text is seen twice."""
    before, after = {}, {}
    with runs.spied(before):
        runs.start(tmp_path / "again", config(data, steps=9, schedule__decay=0.0, **_in_steps()))
    with runs.spied(after):
        runs.anneal(at(base, 9), 6, tmp_path / "branch", mixture={"code": 0.25, "maths": 0.75})
    assert sorted(after) == list(range(9, 15))
    words = {name: {word.encode() for word in told} for name, told in runs.WORDS.items()}
    counts = dict.fromkeys(words, 0)
    for row in [row for step in after.values() for row in step]:
        inside = runs.text_of(row).split()[1:-1]
        counts[next(name for name in words if set(inside) <= words[name] | {b"\xff"})] += 1
    # A quarter and three quarters of 24 rows; where they begin in turn makes one more or less.
    assert counts == {"code": pytest.approx(6, abs=1), "maths": pytest.approx(18, abs=1), "prose": 0}
    seen = {row for step in before.values() for row in step}
    assert [row for step in after.values() for row in step if row in seen] == []


def _in_steps() -> dict[str, Any]:
    """The changes of a run of 18 steps."""
    return {
        name: one.replace("40%", "step 8").replace("67%", "step 13") if isinstance(one, str) else one
        for name, one in CHANGING.items()
    }


def test_a_branch_from_the_fall(base, tmp_path):
    """At step 15 the rate is already lower: it falls on from there."""
    rate = next(one["rate"] for one in lines(base) if one["step"] == 15)
    assert 0 < rate < 0.004
    runs.anneal(at(base, 15), 4, tmp_path / "branch")
    told = [one["rate"] for one in lines(tmp_path / "branch") if one["kind"] == "train"]
    assert told == pytest.approx([rate * 0.75, rate * 0.5, rate * 0.25, 0])


def test_no_branch_from_the_bottom(base, tmp_path):
    with pytest.raises(UsageError, match="at step 18 the learning rate is 0 already; branch earlier"):
        runs.anneal(at(base, 18), 4, tmp_path / "branch")
    assert not (tmp_path / "branch").exists()


def test_no_branch_without_steps(base, tmp_path):
    with pytest.raises(UsageError, match="0 steps, valid is 1 or more"):
        runs.anneal(at(base, 9), 0, tmp_path / "branch")


@pytest.mark.parametrize("name", ["checkpoints/step-000000003", "checkpoints", "", "checkpoints/step-9"])
def test_no_branch_from_nothing(base, tmp_path, name):
    with pytest.raises(UsageError, match="no checkpoint of a run; give RUN/checkpoints/step-N"):
        runs.anneal(base / name, 4, tmp_path / "branch")


def test_no_branch_from_a_broken_one(base, tmp_path):
    shutil.copytree(base, tmp_path / "run")
    path = at(tmp_path / "run", 9) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StagewiseError, match=r"step-000000009: model\.safetensors: truncated"):
        runs.anneal(at(tmp_path / "run", 9), 4, tmp_path / "branch")
    assert not (tmp_path / "branch").exists()


def test_no_branch_into_a_run(base, plain, tmp_path):
    with pytest.raises(UsageError, match="holds a run; go on with"):
        runs.anneal(at(base, 9), 4, base)


def test_no_branch_with_an_unknown_domain(base, tmp_path):
    with pytest.raises((StagewiseError, DataError), match="latin"):
        runs.anneal(at(base, 9), 4, tmp_path / "branch", mixture={"latin": 1.0})
    assert not (tmp_path / "branch").exists()


def test_no_branch_on_other_tokens(tmp_path):
    """Nothing is left of it, so that it can be made once the tokens are back."""
    tokens = runs.tokens(tmp_path / "tokens")
    runs.start(tmp_path / "run", config(tokens, steps=9, schedule__decay=0.0))
    shutil.move(tokens, tmp_path / "kept")
    runs.tokens(tokens, seed=1)
    with pytest.raises(StagewiseError, match="was trained with data"):
        runs.anneal(at(tmp_path / "run", 6), 3, tmp_path / "branch")
    shutil.rmtree(tokens)
    shutil.move(tmp_path / "kept", tokens)
    assert runs.anneal(at(tmp_path / "run", 6), 3, tmp_path / "branch").step == 9
