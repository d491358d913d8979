"""Several ranks are one run: the same curve, the same rows, from one number of them to another."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.prepared import Prepared
from scaling.errors import UsageError
from tests.train import runs
from tests.train.runs import CHANGING, STEPS, Harm, at, config, data, lines, losses, ran, ranks, steps_of
from train.checkpoint import Checkpoint
from train.config import RunConfig, write_config
from train.distributed import World
from train.loop import CHECKPOINTS
from train.plan import Plan
from train.run import CONFIG

__all__ = ["data"]
ROOT = Path(__file__).resolve().parents[2]
# Ranks add up in another order: float32 rounds otherwise. Measured over 18 steps: 2e-7.
NEAR = 1e-5
KINDS = ("ddp", "fsdp")
HARD: dict[str, Any] = {"batch.rows": 5, "batch.micro": 2, **CHANGING}  # 2 and 3 rows, in 1 and 2 passes
TORCHRUN = """
import os
import sys
from pathlib import Path
from train.config import read_config
from train.run import start
outcome = start(Path(sys.argv[1]), read_config(sys.argv[2]))
os.write(1, f"DONE {outcome.step}\\n".encode())  # one write: lines of ranks must not mix
"""


def curve(folder: Path) -> np.ndarray:
    """Losses of all depths, norms, and bits per byte, of all steps."""
    told = lines(folder)
    found = [x for step in losses(folder) for x in step]
    found += [one["norm"] for one in told if one["kind"] == "train"]
    return np.array(found + [x for one in told if one["kind"] == "validation" for x in one["bpb"].values()])


def well(ends: list[runs.End]) -> list[Any]:
    """What the ranks returned, all of which have to end well."""
    assert [(one.code, one.error, one.complaints) for one in ends] == [(0, "", ())] * len(ends)
    return [one.value for one in ends]


@pytest.fixture(scope="module")
def hard(data) -> RunConfig:
    return config(data, **HARD)


@pytest.fixture(scope="module")
def one(hard, tmp_path_factory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("one") / "run"
    runs.start(folder, hard)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def two(kind, data, tmp_path_factory) -> Path:
    """The run of two."""
    folder = tmp_path_factory.mktemp(kind) / "run"
    told = well(ranks(2, runs.train, folder, config(data, device__parallel=kind, **HARD)))
    assert [one["step"] for one in told] == [STEPS, STEPS]
    return folder


# --- one curve ----------------------------------------------------------------------------------------


def test_two_ranks_give_the_curve_of_one(one, two):
    """Rows that do not part evenly, in micro-batches, with deeper losses and changes of the mixture."""
    assert curve(two) == pytest.approx(curve(one), rel=NEAR)
    ours, theirs = ([{k: v for k, v in x.items() if k in ("step", "kind", "rate", "tokens", "flops", "phase")}
                     for x in lines(run)] for run in (one, two))  # fmt: skip
    assert ours == theirs


def test_checkpoints_are_those_of_one(one, two):
    """Whole tensors of the same names and shapes, whatever the ranks held; near the same values."""
    assert steps_of(two) == steps_of(one)
    for name in ("model", "optimizer"):
        ours, theirs = (Checkpoint(at(run, STEPS), STEPS).tensors(name) for run in (one, two))
        kinds = [{key: (one.shape, one.dtype) for key, one in side.items()} for side in (ours, theirs)]
        assert kinds[0] == kinds[1]
        for key in ours:
            scale = float(ours[key].abs().max())
            assert float((ours[key] - theirs[key]).abs().max()) <= 1e-3 * scale, key


@pytest.mark.parametrize("name", ["adamw"])
def test_with_adamw(kind, data, tmp_path, name):
    more = HARD | {"optim.name": name, "steps": 9, "device.parallel": kind}
    runs.start(tmp_path / "one", config(data, **more))
    well(ranks(2, runs.train, tmp_path / "two", config(data, **more)))
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), rel=NEAR)


def test_a_head_of_its_own_and_recomputed(kind, data, tmp_path):
    more = {"model.tied": False, "device.recompute": True, "model.layers": 2, "steps": 6}
    more["device.parallel"] = kind
    runs.start(tmp_path / "one", config(data, **more))
    well(ranks(2, runs.train, tmp_path / "two", config(data, **more)))
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), rel=NEAR)


# --- one order of text --------------------------------------------------------------------------------


def together(told: list[Any]) -> dict[int, list[bytes]]:
    """The rows of all ranks, by step."""
    return {step: [row for one in told for row in one["rows"][step]] for step in told[0]["rows"]}


def test_another_number_of_ranks_goes_on(kind, one, data, tmp_path):
    """From 2 to 1 and from 1 to 2, stopped at the same step: every row in its step, and the curve of one."""
    told = config(data, device__parallel=kind, **HARD)
    stop = Harm(at=6, signals=("SIGTERM",), rank=1)  # told to one of them, heard by all
    from_two = well(ranks(2, runs.train, tmp_path / "a", told, stop, True))
    assert {(x["step"], x["stopped"]) for x in from_two} <= {(7, "SIGTERM"), (7, "signal")}
    to_one = ran(runs.train, tmp_path / "a", None, None, True)
    from_one = ran(runs.train, tmp_path / "b", told, Harm(at=6, signals=("SIGTERM",)), True)
    to_two = well(ranks(2, runs.train, tmp_path / "b", None, None, True))
    batches = Plan.of(told, Prepared.read(data)).batches()
    wanted = {step: [row.tobytes() for row in batches.batch(step).ids] for step in range(STEPS)}
    assert together(from_two) | to_one["rows"] == wanted
    assert from_one["rows"] | together(to_two) == wanted
    assert sorted(to_one["rows"]) == sorted(together(to_two)) == list(range(7, STEPS))
    for name in ("a", "b"):
        assert curve(tmp_path / name) == pytest.approx(curve(one), rel=NEAR)
        assert [x["step"] for x in lines(tmp_path / name)] == [x["step"] for x in lines(one)]


def test_two_ranks_resume_to_the_bit(two, kind, tmp_path):
    """On the same number of ranks nothing tells a resumed run from one that was not."""
    folder = Path(shutil.copytree(two, tmp_path / "run"))
    for step in steps_of(folder):
        if step > 9:
            shutil.rmtree(at(folder, step))
    well(ranks(2, runs.train, folder, None))
    runs.same(folder, two)


def test_two_ranks_that_were_killed(kind, data, two, tmp_path):
    """One dies, so the other ends too; together they go on."""
    folder = tmp_path / "run"
    told = config(data, device__parallel=kind, **HARD)
    ends = ranks(2, runs.train, folder, told, Harm(event=60_000, rank=1))
    assert ends[1].code == -signal.SIGKILL and ends[0].code not in (0, None)
    if (folder / CONFIG).exists():
        told = None
    well(ranks(2, runs.train, folder, told))
    runs.same(folder, two)


def test_a_branch_on_two_ranks(one, tmp_path):
    runs.anneal(at(one, 9), 4, tmp_path / "one")
    assert [x["step"] for x in well(ranks(2, runs.branch, at(one, 9), 4, tmp_path / "two"))] == [13, 13]
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), rel=NEAR)


# --- what stands in the way ------------------------------------------------------------------------------


def test_more_ranks_than_rows(kind, data, tmp_path):
    ends = ranks(2, runs.train, tmp_path / "run", config(data, batch__rows=1, device__parallel=kind))
    for end in ends:
        assert end.code == 1
        assert "batch.rows is 1, and there are 2 ranks; give each a row at least" in end.error
    assert not (tmp_path / "run" / CONFIG).exists()


def test_an_error_of_the_first_is_told_to_all(one, data, tmp_path):
    """Each rank says what is wrong, none waits: a folder that holds a run, checkpoints all broken."""
    for end in ranks(2, runs.train, one, config(data, **HARD)):
        assert end.code == 1 and f"{one}: holds a run" in end.error
    folder = Path(shutil.copytree(one, tmp_path / "run"))
    for step in steps_of(folder):
        (at(folder, step) / "state.json").write_text("")
    for end in ranks(2, runs.train, folder, None):
        assert end.code == 1 and "every checkpoint is broken" in end.error


def test_a_full_disk_is_told_to_all(kind, data, tmp_path):
    harm = Harm(at=4, room=25_000, rank=0)
    ends = ranks(2, runs.train, tmp_path / "run", config(data, device__parallel=kind, **HARD), harm)
    for end in ends:
        assert end.code == 1 and "could not be written" in end.error and "make room" in end.error
    assert [path.name for path in (tmp_path / "run" / CHECKPOINTS).iterdir()] == ["step-000000003"]


def test_a_broken_log_is_told_to_all(one, tmp_path):
    folder = Path(shutil.copytree(one, tmp_path / "run"))
    shutil.rmtree(at(folder, STEPS))
    text = (folder / "log.jsonl").read_bytes()
    (folder / "log.jsonl").write_bytes(b"{broken\n" + text)
    for end in ranks(2, runs.train, folder, None):
        assert end.code == 1 and "log.jsonl:1: not JSON" in end.error


def test_a_late_rank_is_no_second_run(kind, data, tmp_path):
    """A rank that comes later finds what the first has written by then, and must not stumble on it."""
    well(ranks(2, runs.late, tmp_path / "run", config(data, steps=3, device__parallel=kind)))


# --- torchrun -------------------------------------------------------------------------------------------


def test_torchrun(hard, one, tmp_path):
    """As a user starts it."""
    write_config(hard, tmp_path / "run.toml")
    (tmp_path / "train_it.py").write_text(TORCHRUN)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        str(tmp_path / "train_it.py"), str(tmp_path / "run"), str(tmp_path / "run.toml"),
    ]  # fmt: skip
    env = {**runs.environment(), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    # A session of its own: one that hangs is killed with its ranks.
    with subprocess.Popen(
        command, cwd=ROOT, env=env, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, err
    assert out.count(f"DONE {STEPS}") == 2
    assert curve(tmp_path / "run") == pytest.approx(curve(one), rel=NEAR)


# --- shares ---------------------------------------------------------------------------------------------


@given(size=st.integers(1, 40), more=st.integers(0, 100))
def test_rows_part_evenly(size, more):
    """Every row once, in order; no rank has more than one row more than another."""
    count = size + more
    parts = [range(count)[World(rank, size).rows(count)] for rank in range(size)]
    assert [row for part in parts for row in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1 and min(map(len, parts)) >= 1


@given(size=st.integers(2, 40), less=st.integers(1, 39))
def test_too_few_rows(size, less):
    count = max(0, size - less)
    for rank in (0, size - 1):
        with pytest.raises(UsageError, match=rf"batch\.rows is {count}, and there are {size} ranks"):
            World(rank, size).rows(count)
