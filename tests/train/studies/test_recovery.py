"""Shares of the anneal's gain: figures made by hand, intervals against scipy."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats

from scaling.errors import StagewiseError
from train.studies.blends import Blend
from train.studies.recovery import ALL, Measured, Recovery, interval

BYTES = [100, 50, 0, 80, 120]
DOMAIN = ["code", "code", "code", "prose", "prose"]


def measured(seed: int, shares: Mapping[str, float], point: int = 40, noise: float = 0.0) -> Measured:
    """Rows whose loss lies between raw and annealed, by kind; with noise of rows that is not shared."""
    rng = np.random.default_rng(seed)
    raw = np.array([300.0, 140.0, 0.0, 200.0, 310.0]) + seed
    gain = np.array([20.0, 10.0, 0.0, 15.0, 30.0])
    blends = {
        "raw": Blend("raw", {40: 1.0}), "annealed": Blend("annealed", {}), "later": Blend("later", {46: 1.0}),
        "default": Blend("default", {10: 0.25, 20: 0.25, 30: 0.25, 40: 0.25}, 4),
        "later default": Blend("later default", {16: 0.25, 26: 0.25, 36: 0.25, 46: 0.25}, 4),
        "member": Blend("member", {30: 1.0}, 1),
        "mean": Blend("mean", {20: 0.5, 40: 0.5}, 2, 0.5),
    }  # fmt: skip
    bits = [raw - gain * (shares[name] + noise * rng.normal(size=5)) for name in blends]
    scores = [{"t": {"bpb": 3.0 - shares[name], "acc": 0.3 + shares[name] / 10}} for name in blends]
    return Measured(
        seed, point, 6, 1e6, 400, DOMAIN, BYTES, tuple(blends.values()),
        tuple(one.tolist() for one in bits), tuple(scores),
    )  # fmt: skip


SHARES = {
    "raw": 0.0, "annealed": 1.0, "later": 0.2, "default": 0.6, "later default": 0.9, "member": -0.3,
    "mean": 0.5,
}  # fmt: skip


def test_shares_are_those_that_were_put_in():
    """Oracle: every row recovers the same share, so does each domain, each seed, and each draw of rows."""
    found = Recovery.of([measured(seed, SHARES) for seed in (0, 1, 2)])
    (point,) = found.points.to_dict("records")
    for name, share in {"share": 0.6, "low": 0.6, "high": 0.6, "rows_low": 0.6, "rows_high": 0.6}.items():
        assert point[name] == pytest.approx(share)
    assert point["later_share"] == pytest.approx(0.9)
    assert (point["below"], point["seeds"]) == (3, 3) and point["margin"] > 0
    assert point["span"] == 30 / 40 and point["anneal_share"] == 6 / 40
    assert (point["anneal_flops"], point["default_flops"], point["read_bytes"]) == (6e6, 0, 1600)
    losses = found.losses
    first = losses[(losses["kind"] == "raw") & (losses["seed"] == 0)].set_index("domain")["bpb"]
    assert first["code"] == 440 / 150 and first["prose"] == 510 / 200
    assert first[ALL] == pytest.approx((440 / 150 + 510 / 200) / 2)
    assert found.domains["share"].tolist() == pytest.approx([0.6, 0.6])
    sweep = found.sweep.set_index("kind")
    assert sweep.loc["mean", "share"] == pytest.approx(0.5) == sweep.loc["mean", "at_40"]
    scores = found.scores.set_index(["task", "metric"])
    assert scores.loc[("t", "bpb"), "gain"] == pytest.approx(0.6) == scores.loc[(ALL, "bpb"), "gain"]
    assert scores.loc[("t", "acc"), "annealed_gain"] == pytest.approx(0.1)


def test_a_mean_that_is_not_below_every_snapshot_in_it_is_told():
    found = Recovery.of([measured(seed, SHARES | {"member": 0.7}) for seed in (0, 1)])
    assert found.points["below"].tolist() == [0] and found.points["margin"][0] < 0


def test_the_best_span_is_told_and_what_is_near_it():
    """Spans of 2 snapshots: 0.5 recovers half, 0.25 half less 0.04 at one point, 0.75 a tenth less."""
    parts = []
    for seed, less in ((0, 0.0), (1, 0.04)):
        one = measured(seed, SHARES)
        raw, gain = np.array(one.bits[0]), np.array(one.bits[0]) - np.array(one.bits[1])
        more = [(Blend("mean", {20: 0.5, 40: 0.5}, 2, span), share) for span, share in
                ((0.25, 0.5 - less), (0.75, 0.4))]  # fmt: skip
        blends = (*one.blends, *(blend for blend, _ in more))
        bits = (*one.bits, *((raw - share * gain).tolist() for _, share in more))
        parts.append(Measured(**{**vars(one), "blends": blends, "bits": bits, "scores": ({},) * len(blends)}))
    assert Recovery.of(parts).notes == (
        "2 snapshots: best over 50% of the steps so far (0.50); never more than 0.05 behind the best span: "
        "25%, 50%",
    )


def test_the_interval_over_seeds_is_that_of_a_t_test():
    """Oracle: scipy's confidence interval of a mean."""
    values = [0.7, 0.75, 0.9, 0.64]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert interval(values, 0.9) == pytest.approx((expected.low, expected.high))
    assert all(math.isnan(one) for one in interval([0.7], 0.95))
    found = Recovery.of([measured(i, SHARES | {"default": one}) for i, one in enumerate(values)], 0.9)
    assert found.points[["low", "high"]].iloc[0].tolist() == pytest.approx(interval(values, 0.9))


def test_rows_that_disagree_widen_their_interval():
    found = Recovery.of([measured(seed, SHARES, noise=0.2) for seed in (0, 1, 2)]).points.iloc[0]
    assert found["rows_low"] < found["share"] < found["rows_high"]
    again = Recovery.of([measured(seed, SHARES, noise=0.2) for seed in (0, 1, 2)]).points.iloc[0]
    assert found["rows_low"] == again["rows_low"]


def test_a_way_that_is_missing_at_a_point_has_no_mean_over_points():
    other = measured(0, SHARES, point=80)
    kept = [i for i, one in enumerate(other.blends) if one.kind != "mean"]
    fewer = Measured(
        **{**vars(other), **{k: tuple(vars(other)[k][i] for i in kept) for k in ("blends", "bits", "scores")}}
    )
    found = Recovery.of([measured(0, SHARES), fewer]).sweep.set_index("kind")
    assert math.isnan(found.loc["mean", "share"]) and found.loc["mean", "at_40"] == pytest.approx(0.5)
    assert found.loc["default", "share"] == pytest.approx(0.6)


def test_one_seed_without_tasks_and_nothing():
    one = measured(3, SHARES)
    found = Recovery.of([Measured(**{**vars(one), "scores": tuple({} for _ in one.blends)})])
    assert not len(found.scores) and math.isnan(found.points["low"][0])
    assert "<table" in found._repr_html_() and found.to_frame() is found.sweep
    assert found.plot().get_ylabel().startswith("share")
    with pytest.raises(StagewiseError, match="nothing was measured"):
        Recovery.of([])
