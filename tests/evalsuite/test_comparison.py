"""Two models on the same items. Oracles: scipy, statsmodels, closed forms, a bootstrap, simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtri
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from evalsuite.comparison import FEW, aligned, compare, difference, paired
from evalsuite.likelihoods import Likelihoods
from evalsuite.measures import METRICS, per_item, summarise, take
from scaling.errors import StagewiseError, UsageError
from tests.evalsuite.test_measures import gold_only, made

SCORED = ("acc", "acc_norm", "acc_bytes", "p_correct", "margin", "brier", "bpb", "gold_ce_loss")


def other(of: Likelihoods, seed: int = 1, scale: float = 1.0) -> Likelihoods:
    """Another model on the same items."""
    return replace(of, ll=of.ll + np.random.default_rng(seed).normal(0, scale, of.ll.shape))


def right(hits: np.ndarray, task: str = "t") -> Likelihoods:
    """Two choices, right where `hits` says."""
    ll = np.where(hits[:, None] == [True, False], -1.0, -2.0)
    return Likelihoods.of(task, 0, [f"i{i}" for i in range(len(hits))], np.zeros(len(hits)), ll,
                          np.full(ll.shape, 3))  # fmt: skip


@pytest.mark.parametrize("metric", METRICS)
def test_a_paired_t_test(metric):
    """Oracle: scipy.stats.ttest_rel on the items' values; of the ratio, on bits minus ratio times bytes."""
    a = made(1, 300)
    b = other(a, scale=6.0)
    found = paired(a, b, metric)
    x, y = per_item(a, metric), per_item(b, metric)
    theirs = stats.ttest_rel(y, x)
    interval = theirs.confidence_interval(0.95)
    assert found.test == "t" and found.n_items == 300
    assert (found.a, found.b) == pytest.approx((summarise(a)[metric].score, summarise(b)[metric].score))
    assert found.difference == pytest.approx(found.b - found.a, abs=1e-12)
    assert (found.p, found.low, found.high) == pytest.approx((theirs.pvalue, interval.low, interval.high))
    assert found.stderr == pytest.approx(stats.sem(y - x))


def test_the_ratio_s_difference_by_bootstrap_and_jackknife():
    """Oracles: delete-one jackknife and 20,000 bootstrap replicates of the difference of two ratios."""
    a = made(2, 400)
    b = other(a, scale=2.0)
    gain = (a.gold_of(a.ll) - b.gold_of(b.ll)) / np.log(2)
    size = a.gold_of(a.bytes)
    found = paired(a, b, "bpb_bytes")
    assert found.difference == pytest.approx(gain.sum() / size.sum())
    without = (gain.sum() - gain) / (size.sum() - size)
    assert found.stderr == pytest.approx(np.sqrt(399 * without.var()), rel=0.02)
    draws = np.random.default_rng(0).multinomial(400, np.full(400, 1 / 400), 20_000)
    assert found.stderr == pytest.approx(((draws @ gain) / (draws @ size)).std(), rel=0.03)
    assert found.stderr < 0.5 * np.hypot(summarise(a)["bpb_bytes"].stderr, summarise(b)["bpb_bytes"].stderr)


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (6, 0), (9, 3), (12, 12), (20, 4)])
def test_few_items_that_differ_get_the_exact_test(won, lost):
    """Oracles: statsmodels' exact McNemar; the formula of Bonett and Price, written out."""
    n = 200
    a = np.arange(n) < lost + 60
    b = np.arange(n) < 60
    b[lost + 60 : lost + 60 + won] = True
    found = paired(right(a), right(b), "acc")
    table = [[60, lost], [won, n - 60 - won - lost]]
    assert found.test == "exact McNemar"
    assert found.p == pytest.approx(mcnemar(table, exact=True).pvalue)
    p12, p21 = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    error = np.sqrt((p12 + p21 - (p12 - p21) ** 2) / (n + 2))
    half = ndtri(0.975) * error
    assert (found.low, found.high) == pytest.approx((p12 - p21 - half, p12 - p21 + half))
    assert (found.p > 0.05) == (found.low <= 0 <= found.high)


def test_many_items_that_differ_get_the_t_test():
    a = np.arange(100) < FEW
    assert paired(right(a), right(~a & False), "acc").test == "t"
    assert paired(right(a[1:]), right(~a[1:] & False), "acc").test == "exact McNemar"


def test_centred_accuracy_is_compared_as_accuracy_is():
    # Oracle: with two choices, twice everything.
    rng = np.random.default_rng(0)
    hits = rng.random(100) < 0.5
    a, b = right(hits), right(hits ^ (rng.random(100) < 0.1))
    plain, centred = paired(a, b, "acc"), paired(a, b, "acc_centred")
    assert plain.test == centred.test == "exact McNemar" and plain.p == centred.p
    for name in ("difference", "stderr", "low", "high", "spread"):
        assert getattr(centred, name) == pytest.approx(2 * getattr(plain, name), abs=1e-12)
    assert centred.detectable() == pytest.approx(2 * plain.detectable())


@pytest.mark.parametrize(("rate", "gain", "n"), [(0.02, 0.01, 300), (0.05, 0.03, 200), (0.3, 0.1, 200)])
def test_intervals_cover(rate, gain, n):
    """Oracle: 4,000 seeded draws of two right-or-wrong models that differ on a share of the items."""
    rng = np.random.default_rng(0)
    covered = 0
    for won, lost, _ in rng.multinomial(n, [(rate + gain) / 2, (rate - gain) / 2, 1 - rate], 4000):
        x, y = np.arange(n) < lost, (np.arange(n) >= lost) & (np.arange(n) < lost + won)
        found = difference("acc", x.astype(float), y.astype(float), 1.0)
        covered += found.low <= gain <= found.high
    assert 0.94 < covered / 4000 < 0.985


def test_the_same_model_twice():
    a = made(3, 50)
    for metric in METRICS:
        found = paired(a, take(a, np.random.default_rng(0).permutation(50)), metric)
        assert (found.difference, found.p) == (0, 1) and found.low <= 0 <= found.high, metric
    frame = compare({("t", 0): a}, {("t", 0): a}, "bpb").to_frame()
    assert frame["verdict"].tolist() == ["no difference shown"] and frame["detectable"].isna().all()


def test_one_item_shows_nothing():
    a = take(made(4, 3), np.array([0]))
    found = paired(a, other(a), "bpb")
    assert found.p == 1 and np.isnan([found.stderr, found.low, found.high, found.detectable()]).all()
    assert paired(a, other(a), "acc").p == 1


def test_the_same_gain_on_every_item():
    found = difference("margin", np.arange(5.0), np.arange(5.0) + 1)
    assert (found.p, found.low, found.high) == (0, 1, 1)


@given(st.integers(0, 10**6), st.sampled_from(sorted(METRICS)), st.integers(2, 60))
def test_swapped_models_swap_the_sign(seed, metric, n):
    a = made(seed, n)
    b = other(a, seed + 1, 3.0)
    one, two = paired(a, b, metric), paired(b, a, metric)
    assert one.p == pytest.approx(two.p)
    assert one.difference == pytest.approx(-two.difference, abs=1e-12)
    assert (one.low, one.high) == pytest.approx((-two.high, -two.low), abs=1e-9)


@given(st.integers(0, 10**6))
def test_the_order_of_the_items_is_nothing(seed):
    a = made(seed, 25)
    b = other(a, seed)
    mixed = take(b, np.random.default_rng(seed).permutation(25))
    np.testing.assert_array_equal(aligned(a, mixed)[1].ll, b.ll)
    for metric in SCORED:
        assert paired(a, mixed, metric) == paired(a, b, metric)


# --- items that are not the same -----------------------------------------------------------------


def test_other_items_are_told():
    a = made(5, 10)
    b = replace(a, ids=np.array([f"i{i}" for i in range(3, 13)]))
    said = r"made: not the same: 7 in common, 3 only in the first \('i0', 'i1', 'i2'\), 3 only in the second"
    with pytest.raises(StagewiseError, match=said):
        paired(a, b, "acc")
    with pytest.raises(StagewiseError, match=r"4 in common, 6 only in the first \('i4', .* and 1 more\); a"):
        paired(a, take(a, slice(0, 4)), "acc")
    with pytest.raises(StagewiseError, match="'i1' stand twice"):
        paired(a, take(a, np.array([0, 1, 1])), "acc")


def test_items_of_one_name_that_differ_are_told():
    a = made(6, 10, equal=True)
    moved = a.gold.copy()
    moved[2] = (moved[2] + 1) % 5
    with pytest.raises(StagewiseError, match="1 of 10 are called alike and differ in the right choice: 'i2'"):
        paired(a, replace(a, gold=moved), "acc")
    with pytest.raises(StagewiseError, match=r"10 of 10 .* the number of choices"):
        paired(a, replace(a, n_choices=a.n_choices - 1), "acc")
    with pytest.raises(StagewiseError, match=r"10 of 10 .* bytes of the right answer"):
        paired(a, replace(a, bytes=a.bytes + 1), "acc")


def test_metrics_that_one_of_them_lacks_are_told():
    a = made(7, 10)
    assert paired(a, gold_only(other(a)), "bpb").n_items == 10
    said = "acc of made: not defined on the same items: 10 items of the first and 0 of the second"
    with pytest.raises(StagewiseError, match=said):
        paired(a, gold_only(a), "acc")
    with pytest.raises(StagewiseError, match="acc of made: not defined, only the right answers"):
        paired(gold_only(a), gold_only(a), "acc")
    with pytest.raises(UsageError, match="'nll': not one of scored items"):
        paired(a, a, "nll")


# --- many tasks ----------------------------------------------------------------------------------


def tasks(seed: int = 0, gains: tuple[float, ...] = (2.0, 0.3, 0.0, 0.0, -2.0)):
    a, b = {}, {}
    for i, gain in enumerate(gains):
        one = replace(made(seed + i, 150), task=f"t{i}")
        two = other(one, seed + 100 + i)
        rightly = np.arange(two.ll.shape[1]) == two.gold[:, None]
        a[f"t{i}", 0], b[f"t{i}", 0] = one, replace(two, ll=two.ll + np.where(rightly, gain, 0.0))
    return a, b


@pytest.mark.parametrize("metric", SCORED)
def test_corrections_and_verdicts(metric):
    """Oracles: statsmodels' multipletests; the gains put in, for the verdicts."""
    a, b = tasks()
    frame = compare(a, b, metric).to_frame()
    p = [paired(a[where], b[where], metric).p for where in a]
    assert frame["p"].tolist() == p
    assert frame["p_holm"].tolist() == pytest.approx(multipletests(p, method="holm")[1])
    assert frame["q"].tolist() == pytest.approx(multipletests(p, method="fdr_bh")[1])
    least = [paired(a[where], b[where], metric).detectable(0.05 / 5) for where in a]
    assert frame["detectable"].tolist() == pytest.approx(least)
    assert frame["verdict"].iloc[[0, 2, 3, 4]].tolist() == [
        "better", "no difference shown", "no difference shown", "worse"
    ]  # fmt: skip
    assert frame.columns.tolist() == [
        "task", "shots", "metric", "a", "b", "difference", "low", "high", "p", "test", "p_holm", "q",
        "n_items", "detectable", "verdict",
    ]  # fmt: skip


def test_a_metric_for_each_task_and_tasks_of_one_model():
    a, b = tasks()
    metrics = {where: ("acc", "bpb")[i % 2] for i, where in enumerate(a)}
    del a["t4", 0], b["t0", 0]
    b["t1", None] = b["t1", 0]
    found = compare(a, b, metrics)
    assert found.to_frame()[["task", "metric"]].values.tolist() == [
        ["t1", "bpb"],
        ["t2", "acc"],
        ["t3", "bpb"],
    ]
    assert found.only_a == (("t0", 0),) and found.only_b == (("t1", None), ("t4", 0))
    assert "no difference shown" in found._repr_html_()


def test_what_is_refused():
    a, b = tasks()
    with pytest.raises(StagewiseError, match="no task in common"):
        compare(a, {("u", 0): b["t0", 0]}, "acc")
    with pytest.raises(UsageError, match=r"metrics: none given for t1 \(0-shot\), t2 \(0-shot\)"):
        compare(a, b, {where: "acc" for where in a if where[0] not in ("t1", "t2")})
    with pytest.raises(UsageError, match="'f1': not one of scored items"):
        compare(a, b, "f1")
    b["t1", 0], b["t3", 0] = take(b["t1", 0], slice(0, 9)), take(b["t3", 0], slice(0, 9))
    with pytest.raises(StagewiseError, match=r"items of t1: not the same(.|\n)*items of t3: not the same"):
        compare(a, b, "acc")


def simulated(
    rng: np.random.Generator, gain: float, hits: bool, n: int, m: int = 8
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Values of two models on m tasks of n items. Hard items are hard for both, and the tasks share how
    the second model is better or worse by chance, so that their tests depend on each other."""
    common = rng.normal(0, 1, n)  # the same for the i-th item of every task
    found = []
    for _ in range(m):
        ease = rng.normal(0, 1.5, n)
        x = ease + rng.normal(0, 0.5, n)
        y = ease + gain + 0.6 * common + rng.normal(0, 0.5, n)
        x = x * np.sqrt((1.5**2 + 0.5**2 + 0.36) / (1.5**2 + 0.5**2))  # as often right
        found.append(((x > 0).astype(float), (y > 0).astype(float)) if hits else (x, y))
    return found


@pytest.mark.parametrize(("hits", "n"), [(True, 60), (True, 400), (False, 60)])
def test_wrong_verdicts_are_as_rare_as_promised(hits, n):
    """Oracle: 1,500 seeded pairs of equally good models on eight dependent tasks: any verdict at all in at
    most 5% of them, up to 3 standard errors; uncorrected it is several times that."""
    rng = np.random.default_rng(7)
    step = 1.0 if hits else None
    drawn = [simulated(rng, 0.0, hits, n) for _ in range(1500)]
    p = np.array([[difference("acc", x, y, step).p for x, y in one] for one in drawn])
    # Holm gives a verdict at all where the smallest p is that small.
    holm = np.mean(p.min(axis=1) * p.shape[1] <= 0.05)
    assert holm <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1500)
    assert (p.min(axis=1) <= 0.05).mean() > 2 * 0.05


@pytest.mark.parametrize(("hits", "n"), [(True, 400), (False, 100)])
def test_what_is_called_detectable_is_found_four_times_in_five(hits, n):
    """Oracle: 600 seeded pairs in which one of two models is better by that much."""
    rng = np.random.default_rng(8)
    step = 1.0 if hits else None
    # The gain in the mean that a shift makes, and the shift that makes what is detectable.
    wide = np.concatenate([np.array(simulated(rng, 0.0, hits, n, 1)[0]) for _ in range(400)], axis=1)
    needed = difference("acc", wide[0][:n], wide[1][:n], step).detectable(0.05 / 8)
    shift = needed
    if hits:
        sd = np.sqrt(1.5**2 + 0.5**2 + 0.36)
        shift = sd * ndtri(0.5 + needed)
    draws = [simulated(rng, shift, hits, n, 1)[0] for _ in range(600)]
    power = np.mean([difference("acc", x, y, step).p <= 0.05 / 8 for x, y in draws])
    assert 0.72 < power < 0.9


@pytest.mark.parametrize("n", [40, 400])
def test_detectable_of_the_t_test(n):
    """Oracle: statsmodels' TTestPower."""
    values = np.random.default_rng(0).normal(0, 2, n)
    found = difference("margin", np.zeros(n), values)
    theirs = TTestPower().solve_power(nobs=n, alpha=0.01, power=0.8) * values.std(ddof=1)
    assert found.detectable(0.01) == pytest.approx(theirs, rel=0.02)


@pytest.mark.parametrize("level", [0.05, 0.05 / 20])
def test_detectable_of_the_exact_test_where_hardly_anything_differs(level):
    """Oracle: 4,000 draws of models that differ one way only: the exact test finds what is called detectable
    in about 80% of them."""
    n = 500
    found = difference("acc", np.zeros(n), np.zeros(n), 1.0)
    won = np.random.default_rng(0).binomial(n, found.detectable(level), 4000)
    found_it = np.mean([stats.binomtest(int(k), int(k)).pvalue <= level for k in won if k])
    assert 0.77 < found_it < 0.9
