"""`train study averaging`: what it prints and keeps, that it goes on where it was stopped, how it fails."""

from __future__ import annotations

import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from scaling.errors import UsageError
from tests.train.commands import Said, call, signalled
from tests.train.runs import at, config, start, tokens
from train.run import CONFIG
from train.studies.averaging import Course, _mean

SMOKE = ("study", "averaging", "--smoke", "--points", "40%,100%")


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("study") / "kept"


@pytest.fixture(scope="module")
def printed(kept: Path) -> Said:
    return call(*SMOKE, "--seeds", "0", "-o", kept)


def test_it_tells_the_plan_then_the_findings(printed: Said, kept: Path):
    assert "1 seeds (1 to do), each 80 steps at constant rate and branches of 4, 10 at 28, 70" in printed.err
    assert "FLOPs to train" in printed.err and "held-out tokens" in printed.err and "about " in printed.err
    assert printed.err.index("FLOPs to train") < printed.err.index("seed 0: trained")
    for title in ("share of the anneal's gain recovered", "share by number", "by domain", "tasks, mean"):
        assert title in printed.out
    assert "one seed gives no interval; give --seeds 0,1,2" in printed.err
    for name in ("points", "sweep", "domains", "scores", "losses"):
        assert (kept / f"{name}.csv").read_text(encoding="utf-8").count("\n") > 2
    assert not [one for one in kept.iterdir() if one.is_dir() and one.name != "tokens"]  # no checkpoints


def test_what_is_kept_is_found_again(printed: Said, kept: Path):
    with patch("train.studies.runs.start", None):  # no run may begin
        picture = kept.with_suffix(".png")
        found = call(*SMOKE, "--seeds", "0", "-o", kept, "--json", "--plot", picture).json
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert set(found) == {"level", "points", "sweep", "domains", "scores", "notes"}
    assert [one["step"] for one in found["points"]] == [28, 70]
    for one in found["points"]:
        expected = one["anneal_steps"] * 2 * 32  # rows and context of a step
        assert one["anneal_flops"] % expected == 0 and one["default_flops"] == 0 and one["seeds"] == 1
        assert f"{one['raw']:.4f}" in printed.out and f"{one['annealed']:.4f}" in printed.out
    said = call(*SMOKE, "-o", kept, "--set", "optim.lr=0.1", code=1)
    assert "run.optim.lr was None" in said.err and "put it back" in said.err


def test_a_stopped_study_goes_on_to_the_same_figures(printed: Said, kept: Path, tmp_path: Path):
    """Stopped in a run, in a branch, and with a branch that was killed before it had a config."""
    place = tmp_path / "again"
    shutil.copytree(kept / "tokens", place / "tokens")
    asked = (*SMOKE[:-1], "100%", "-o", place, "--seeds", "0")
    for step in (33, 72, 72):  # the last time in the branch, of 10 steps at 70, as the run is past it
        with signalled(step):
            said = call(*asked, code=1)
        assert f"stopped by SIGTERM at step {step + 1}" in said.err and "goes on from there" in said.err
    (place / "seed-0-annealed-70" / CONFIG).unlink()
    call(*asked)
    assert (place / "seed-0-step-70.json").read_bytes() == (kept / "seed-0-step-70.json").read_bytes()


def test_means_are_of_the_checkpoints_named(tmp_path: Path):
    """Oracle: numpy in float64 on what the files hold."""
    from safetensors.numpy import load_file

    start(tmp_path / "run", config(tokens(tmp_path / "tokens")))
    shares = {9: 0.2, 12: 0.3, 18: 0.5}
    files = {step: load_file(at(tmp_path / "run", step) / "model.safetensors") for step in shares}
    found = _mean(tmp_path / "run", shares)
    assert set(found) == set(files[9])
    for name, tensor in found.items():
        exact = sum(share * files[step][name].astype(np.float64) for step, share in shares.items())
        assert np.array_equal(tensor.numpy(), exact.astype(np.float32))


def test_a_course_is_made_of_whole_steps_on_one_grid():
    one = Course.of(10_000)
    assert (one.grid, one.points, one.after) == (20, (3000, 6000, 10_000), (440, 900, 1500))
    assert one.every == 500 and one.total == 11_500 and one.branches == 2840
    assert not any(step % one.grid for step in (*one.points, *one.after, one.every))
    with pytest.raises(UsageError, match="too few"):
        Course.of(50)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--points", "60%,30%"), "points: got [0.6, 0.3], valid are shares of the run, ascending"),
        (("--points", "x"), "--points: got 'x'; valid is a share above 0"),
        (("--anneal", "150%"), "--anneal: got '150%'"),
        (("--anneal", "100%"), "anneal: got 1.0, valid is a share of the steps so far"),
        (("--seeds", "1,1"), "seeds: got [1, 1], valid is at least one, each once"),
        (("--task", "no_such_task"), "task 'no_such_task': not among"),
        (("--steps", "30"), "steps: got 30, too few for an anneal of 15%"),
        (("--plot", "a.gif"), "a.gif: valid suffixes are .png, .svg, .pdf"),
        (("--set", "seed=3"), "--set seed: is the study's own; give --seeds"),
        (("--set", 'schedule.kind="wsd"'), "--set schedule.kind: is the study's own"),
    ],
)
def test_it_refuses_what_makes_no_sense(args: tuple[str, ...], said: str):
    told = call(*SMOKE, *args, code=2)
    assert told.err.startswith("error: ") and said in told.err and not told.out


def test_text_and_settings_are_handed_on(tmp_path: Path):
    """Flags before --set before defaults; corpus of the caller instead of what comes with Python."""
    with patch("train.studies.averaging.averaging", side_effect=UsageError("enough")) as asked:
        call("study", "averaging", "--source", "code=a.txt", "--steps", "900", "--set", "steps=5",
             "--set", "batch.rows=3", "--points", "50%, 1", "--seeds", "4", "--most", "7",
             code=2)  # fmt: skip
    (told,), more = asked.call_args
    assert [one.path for one in told.data.sources] == ["a.txt"] and told.data.tokenizer == 2048
    assert (told.steps, told.batch.rows, told.model.preset) == (900, 3, "0.3m")
    assert more["seeds"] == (4,) and more["points"] == [0.5, 1.0] and more["items"] == 7
