"""Runs that lose a capability, and what is noticed of it. Oracle: what was planted; counts by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evalsuite.evaluations import Evaluations
from scaling.errors import UsageError
from tests.train.commands import call
from train.config import read_config
from train.studies.detection import ALARM, Detection, Watch, below_best
from train.studies.planted import DROPS, Drop, planted


def watch(arm: str, seed: int, capability: str, noticed: dict) -> Watch:
    return Watch(arm, seed, capability, 50, 100, noticed, {"train_before": 2.0, "train_after": 1.5}, 10, 0)


def test_counted():
    late = "5% below best"
    found = Detection.of([
        watch("control", 0, "", {}),
        watch("control", 1, "", {(late, "math"): 40}),
        watch("without code", 0, "code", {(ALARM, "code"): 60, (late, "code"): 90, (ALARM, "math"): 70}),
        watch("without code", 1, "code", {(ALARM, "code"): 80, (late, "code"): 30}),
        watch("without code", 2, "code", {(ALARM, "code"): 90}),
    ])  # fmt: skip
    table = found.summary.set_index(["arm", "detector"])
    told = table.loc[("without code", ALARM)]
    assert told[["runs", "found", "delay", "slowest", "share", "false"]].tolist() == [3, 3, 30, 40, 0.3, 0]
    told = table.loc[("without code", late)]
    assert told[["found", "delay", "false"]].tolist() == [1, 40, 1]  # the other one spoke before the loss
    assert table.loc[("control", ALARM), "false"] == 0 and table.loc[("control", late), "false"] == 1
    assert np.isnan(table.loc[("control", ALARM), "found"])
    assert len(found.runs) == 7 and len(found.losses) == 5


@pytest.mark.parametrize(("drop", "step"), [(0.02, 20), (0.04, 40), (0.2, None)])
def test_below_best(drop, step):
    acc = [0.3, 0.27, 0.4, 0.355]
    frame = pd.DataFrame({"capability": "code", "step": [10, 20, 30, 40], "acc": acc})
    assert below_best(frame, drop) == ({} if step is None else {"code": step})


def test_what_can_be_dropped():
    assert Drop.parse("code=maths:code") == Drop.parse("code=maths") == DROPS[0]
    for wrong in ("code", "code=maths:", "code=code:code", "=maths:code", "code=:code"):
        with pytest.raises(UsageError, match="valid is DOMAIN=INSTEAD"):
            Drop.parse(wrong)


def test_wrong_calls(tmp_path):
    config = read_config(settings={"steps": 10})
    for told, words in [
        ({"seeds": ()}, "at least one seed"), ({"controls": ()}, "at least one"), ({"at": 1.0}, "share"),
        ({"drops": [DROPS[0], DROPS[0]]}, "named twice"), ({"tasks": ["skill_nothing"]}, "not among"),
    ]:  # fmt: skip
        with pytest.raises(UsageError, match=words):
            planted(config, **{"seeds": (0,), "controls": (0,), "folder": tmp_path, **told})


def test_as_a_user_calls_it(tmp_path):
    """Tiny: three runs, watched, whose mixture changes when it was told; called again it trains nothing."""
    said = call("study", "alarms", "--smoke", "-o", str(tmp_path / "out"), "--json")
    tables = said.json
    assert {row["arm"] for row in tables["summary"]} == {"control", "without code", "without maths"}
    assert [row["looks"] for row in tables["losses"]] == [6, 6, 6]
    found = Evaluations.open(tmp_path / "out" / "without-code-0")
    assert len(found.raw) == len(found.all) == 6 and not len(found.failures)
    phases = found.events[found.events["kind"] == "phase"]
    assert phases["step"].tolist() == [19]
    assert not len(Evaluations.open(tmp_path / "out" / "control-0").events)
    again = call("study", "alarms", "--smoke", "-o", str(tmp_path / "out"))
    assert "(0 to do)" in again.err and "without maths" in again.out
