"""Metrics of scored items. Oracles: lm-eval's own functions, closed forms, a jackknife and a bootstrap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evalsuite.likelihoods import Likelihoods
from evalsuite.measures import METRICS, chance, estimate, per_item, summarise, take
from scaling.errors import StagewiseError, UsageError
from scaling.scores import ScoreTable

GOLD_ONLY = ("bpb", "bpb_bytes", "gold_ce_loss")


def made(seed: int = 0, n: int = 60, c: int = 5, *, equal: bool = False, grid: bool = False) -> Likelihoods:
    """Items of 2 to c choices (all c with `equal`); on a coarse `grid` ties are common."""
    rng = np.random.default_rng(seed)
    count = np.full(n, c) if equal else rng.integers(2, c + 1, n)
    there = np.arange(c) < count[:, None]
    chars = np.where(there, rng.integers(1, 6 if grid else 40, (n, c)), 0)
    extra = np.where(there, rng.integers(0, 9, (n, c)), 0)
    ll = -rng.integers(1, 4, (n, c)) * 6.0 if grid else -rng.gamma(2.0, 3.0, (n, c))
    return Likelihoods(
        "made", 0, np.array([f"i{i}" for i in range(n)]), np.full(n, ""), rng.integers(0, count), count,
        np.where(there, ll, np.nan), there.astype(np.int64), chars + extra, chars, chars + extra,
        there & (rng.random((n, c)) < 0.3), np.zeros(n, dtype=bool),
    )  # fmt: skip


def free(of: Likelihoods) -> Likelihoods:
    """The right answers of some items, as free answers."""
    columns = {name: of.gold_of(getattr(of, name))[:, None] for name in _COLUMNS}
    zero = np.zeros(of.n_items, dtype=np.int64)
    return replace(of, gold=zero, n_choices=zero, **columns)


def gold_only(of: Likelihoods) -> Likelihoods:
    """The same items with nothing scored but the right answer."""
    right = np.arange(of.ll.shape[1]) == of.gold[:, None]
    kept = {name: np.where(right, getattr(of, name), 0) for name in _COLUMNS[1:-1]}
    return replace(of, ll=np.where(right, of.ll, np.nan), greedy=of.greedy & right, **kept)


_COLUMNS = ("ll", "tokens", "bytes", "chars", "choice_bytes", "greedy")


def harness(output_type: str, metrics: tuple[str, ...]):
    """lm-eval's ConfigurableTask with nothing of its construction but what process_results reads."""
    from lm_eval.api.task import ConfigurableTask

    class Bare(ConfigurableTask):
        def __init__(self) -> None:
            self._config = type("Config", (), {"process_results": None})()
            self._metric_fn_list = dict.fromkeys(metrics)
            self.OUTPUT_TYPE = output_type
            self.multiple_input = self.multiple_target = 0

        def doc_to_choice(self, doc):
            return doc["choices"]

        def doc_to_target(self, doc):
            return doc["gold"]

    return Bare()


def text_of(chars: int, size: int) -> str:
    """A text of so many characters and bytes, where that can be."""
    extra = size - chars
    return "ø" * min(extra, chars) + "a" * max(chars - extra, 0)


@pytest.mark.parametrize("grid", [False, True])
def test_accuracies_and_brier_are_those_of_lm_eval(grid):
    """Oracle: `process_results` of lm-eval's ConfigurableTask, and its mean, mean_stderr and brier_score."""
    from lm_eval.api.metrics import brier_score, mean, mean_stderr

    of = made(3, 300, equal=True, grid=grid)
    of = replace(of, choice_bytes=np.minimum(of.choice_bytes, 2 * of.chars))
    task = harness("multiple_choice", ("acc", "acc_norm", "acc_bytes", "brier_score", "exact_match"))
    told = [
        task.process_results(
            {"choices": [text_of(*size) for size in zip(of.chars[i], of.choice_bytes[i], strict=True)],
             "gold": int(of.gold[i])},
            list(zip(of.ll[i].tolist(), of.greedy[i].tolist(), strict=True)),
        )
        for i in range(of.n_items)
    ]  # fmt: skip
    found = summarise(of)
    for metric in ("acc", "acc_norm", "acc_bytes"):
        theirs = [one[metric] for one in told]
        assert per_item(of, metric).tolist() == theirs
        assert found[metric].score == pytest.approx(mean(theirs), rel=1e-12)
        assert found[metric].stderr == pytest.approx(mean_stderr(theirs), rel=1e-12)
    assert found["brier"].score == pytest.approx(brier_score([one["brier_score"] for one in told]), rel=1e-12)
    for i, one in enumerate(told):
        assert per_item(of, "p_correct")[i] == pytest.approx(one["brier_score"][1][of.gold[i]], rel=1e-12)


def test_accuracy_of_a_free_answer_is_that_of_lm_eval():
    """Oracle: `process_results` of a loglikelihood task."""
    of = free(made(1))
    task = harness("loglikelihood", ("acc", "perplexity"))
    told = [
        task.process_results({}, [(ll, hit)])["acc"]
        for ll, hit in zip(of.ll[:, 0], of.greedy[:, 0], strict=True)
    ]
    assert per_item(of, "acc").tolist() == told and 0 < sum(told) < len(told)


def test_by_hand():
    # Oracle: two choices with probabilities 3/4 and 1/4 of what the two have, 4 and 2 bytes.
    of = Likelihoods.of("t", 0, ["a"], [0], [[np.log(0.375), np.log(0.125)]], [[4, 2]])
    found = {one.metric: one.score for one in summarise(of).estimates}
    bits = -np.log2(0.375)
    assert found == pytest.approx(
        {"acc": 1, "acc_norm": 1, "acc_bytes": 1, "acc_centred": 1, "p_correct": 0.75, "margin": np.log(3),
         "brier": 2 * 0.25**2, "bpb": bits / 4, "bpb_bytes": bits / 4, "gold_ce_loss": -np.log(0.375)}
    )  # fmt: skip
    assert np.isnan([one.stderr for one in summarise(of).estimates]).all()


def test_bits_are_over_the_scored_bytes_and_accuracy_over_the_task_s():
    of = made(2)
    of = replace(of, bytes=of.bytes * 2)
    assert per_item(of, "bpb") == pytest.approx(per_item(made(2), "bpb") / 2)
    assert per_item(of, "acc_bytes").tolist() == per_item(made(2), "acc_bytes").tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_stderr_is_the_closed_form_of_a_mean(metric):
    """Oracle: scipy.stats.sem of values that were computed apart from each other."""
    of = made(4, 200)
    values = per_item(of, metric)
    found = summarise(of)[metric]
    assert found.n_items == 200
    if metric == "bpb_bytes":
        bits, size = -of.gold_of(of.ll) / np.log(2), of.gold_of(of.bytes)
        assert found.score == pytest.approx(bits.sum() / size.sum(), rel=1e-12)
        return
    if metric != "acc_centred":  # its chance is of all items
        alone = [per_item(take(of, np.array([i])), metric)[0] for i in range(of.n_items)]
        assert values == pytest.approx(alone, rel=1e-12)
    assert found.score == pytest.approx(values.mean(), rel=1e-12)
    assert found.stderr == pytest.approx(stats.sem(values), rel=1e-12)


def test_the_ratio_s_stderr_by_jackknife_and_bootstrap():
    """Oracles: the delete-one jackknife of sum(bits) / sum(bytes), and 20,000 bootstrap replicates."""
    of = made(5, 400)
    bits, size = -of.gold_of(of.ll) / np.log(2), of.gold_of(of.bytes)
    stderr = summarise(of)["bpb_bytes"].stderr
    without = (bits.sum() - bits) / (size.sum() - size)
    jackknife = np.sqrt((len(bits) - 1) * without.var())
    draws = np.random.default_rng(0).multinomial(400, np.full(400, 1 / 400), 20_000)
    assert stderr == pytest.approx(jackknife, rel=0.02)
    assert stderr == pytest.approx(((draws @ bits) / (draws @ size)).std(), rel=0.03)
    # The mean of ratios is another thing.
    assert summarise(of)["bpb"].score > 1.2 * summarise(of)["bpb_bytes"].score


def test_centred_accuracy_is_a_linear_map():
    # Oracle: (acc - c) / (1 - c) with c = mean of 1/choices, counted by hand.
    of = made(6, 500)
    c = np.mean([1 / k for k in of.n_choices])
    acc, centred = summarise(of)["acc"], summarise(of)["acc_centred"]
    assert centred.score == pytest.approx((acc.score - c) / (1 - c))
    assert centred.stderr == pytest.approx(acc.stderr / (1 - c))
    assert chance(of).mean() == pytest.approx(c)
    nothing = summarise(free(of))
    assert nothing["acc_centred"].score == nothing["acc"].score


def test_a_guesser_is_at_chance():
    # Oracle: choices drawn alike are right in 1/choices of the items, and each p_k is 1/choices on average.
    of = made(7, 40_000)
    found = summarise(of)
    assert abs(found["acc_centred"].score) < 4 * found["acc_centred"].stderr
    assert abs(found["p_correct"].score - chance(of).mean()) < 4 * found["p_correct"].stderr


def test_only_right_answers():
    whole, part = summarise(made(8)), summarise(gold_only(made(8)))
    assert tuple(one.metric for one in part.estimates) == GOLD_ONLY
    assert all(part[name] == whole[name] for name in GOLD_ONLY)
    with pytest.raises(StagewiseError, match=r"acc of made: not defined, only .*; defined are bpb, bpb"):
        summarise(gold_only(made(8)), ["acc"])


def test_free_answers():
    names = tuple(one.metric for one in summarise(free(made(9))).estimates)
    assert names == ("acc", "acc_centred", *GOLD_ONLY)
    with pytest.raises(StagewiseError, match="margin of made: not defined, answers are free"):
        summarise(free(made(9)), ["margin"])


def test_some_items_with_choices_and_some_without():
    of = made(10, 100)
    few = np.arange(100) < 30
    right = np.arange(of.ll.shape[1]) == 0
    zero = np.where(few, 0, of.n_choices)
    gone = few[:, None] & ~right
    moved = {name: np.where(gone, 0, getattr(of, name)) for name in _COLUMNS[1:-1]}
    moved |= {"ll": np.where(gone, np.nan, of.ll), "greedy": of.greedy & ~gone}
    mixed = replace(of, n_choices=zero, gold=np.where(few, 0, of.gold), **moved)
    found = summarise(mixed)
    assert (found["acc"].n_items, found["margin"].n_items, found["bpb"].n_items) == (100, 70, 100)
    assert np.isnan(per_item(mixed, "margin")).tolist() == few.tolist()


def test_a_summary_is_rows_of_a_score_table():
    frame = summarise(made(11), ["acc", "bpb"]).to_frame()
    assert list(frame) == ["task", "metric", "shots", "score", "stderr", "n_items"]
    table = ScoreTable.from_frame(frame.assign(model="m", family="f", source="made"))
    assert len(table.frame) == 2
    assert "acc" in summarise(made(11))._repr_html_()
    with pytest.raises(UsageError, match="'mcc': not in this summary of made; it holds acc, bpb"):
        summarise(made(11), ["acc", "bpb"])["mcc"]


# --- what changes nothing ------------------------------------------------------------------------

seeds = st.integers(0, 10**6)


@given(seeds, st.integers(0, 10**6))
def test_the_order_of_the_choices_is_nothing(seed, other):
    of = made(seed, 20, equal=True)
    order = np.argsort(np.random.default_rng(other).random(of.ll.shape), axis=1)
    moved = {name: np.take_along_axis(getattr(of, name), order, axis=1) for name in _COLUMNS}
    swapped = replace(of, gold=(order == of.gold[:, None]).argmax(axis=1), **moved)
    for metric in METRICS:
        assert per_item(swapped, metric) == pytest.approx(per_item(of, metric), rel=1e-9), metric


@given(seeds, st.floats(0, 300))
def test_a_constant_for_all_choices_of_an_item_is_nothing(seed, most):
    of = made(seed, 20)
    shift = np.random.default_rng(seed).uniform(0, most, (20, 1))
    lower = replace(of, ll=of.ll - shift)
    for metric in ("acc", "acc_centred", "p_correct", "margin", "brier"):
        assert per_item(lower, metric) == pytest.approx(per_item(of, metric), abs=1e-9), metric
    assert per_item(lower, "gold_ce_loss") == pytest.approx(per_item(of, "gold_ce_loss") + shift[:, 0])


@given(seeds)
def test_room_for_more_choices_is_nothing(seed):
    of = made(seed, 20)
    width = ((0, 0), (0, 3))
    fill = {name: np.nan if name == "ll" else 0 for name in _COLUMNS}
    wide = {name: np.pad(getattr(of, name), width, constant_values=fill[name]) for name in _COLUMNS}
    for metric in METRICS:
        assert per_item(replace(of, **wide), metric) == pytest.approx(per_item(of, metric), rel=1e-12)


@given(seeds, st.integers(2, 40))
def test_what_always_holds(seed, n):
    of = made(seed, n)
    p, brier, margin = (per_item(of, name) for name in ("p_correct", "brier", "margin"))
    assert ((p > 0) & (p <= 1)).all() and ((brier >= 0) & (brier <= 2)).all()
    assert ((margin > 0) <= (per_item(of, "acc") == 1)).all()
    assert ((p > 0.5) <= (per_item(of, "acc") == 1)).all()
    assert per_item(of, "acc_centred").max() <= 1
    found = summarise(of)
    low, high = per_item(of, "bpb").min(), per_item(of, "bpb").max()
    assert low - 1e-9 <= found["bpb_bytes"].score <= high + 1e-9
    order = np.random.default_rng(seed).permutation(n)
    for one in summarise(take(of, order)).estimates:
        assert one.score == pytest.approx(found[one.metric].score, abs=1e-9)
        assert one.stderr == pytest.approx(found[one.metric].stderr, abs=1e-9)


def test_very_unlikely_answers_do_not_overflow():
    of = Likelihoods.of("t", 0, ["a"], [1], [[-1.0, -1e5]], [[3, 3]])
    assert per_item(of, "p_correct")[0] == 0 and per_item(of, "brier")[0] == 2
    assert per_item(of, "margin")[0] == 1 - 1e5


def test_estimate_leaves_out_what_is_not_defined():
    assert estimate("acc", np.array([1.0, np.nan, 0.0])).n_items == 2


# --- what is refused -----------------------------------------------------------------------------


def broken(**changes) -> Likelihoods:
    of = made(12, 8, equal=True)
    values = {name: getattr(of, name).copy() for name in changes}
    for name, (place, value) in changes.items():
        values[name][place] = value
    return replace(of, **values)


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (broken(ll=((2, 1), np.nan)), "a log-likelihood is not finite .* in 1 of 8: 'i2'; score the"),
        (broken(ll=((slice(None), 1), -np.inf)), "not finite .* in 8 of 8: 'i0', .* 'i4' and 3 more"),
        (broken(gold=(3, 9)), "gold names no answer in 1 of 8: 'i3'"),
        (broken(gold=(3, -1)), "gold names no answer in 1 of 8: 'i3'"),
        (broken(tokens=(slice(None), 0)), "the right answer was not scored in 8 of 8"),
        (broken(bytes=(slice(None), 0)), "the right answer has no bytes in 8 of 8"),
        (take(made(12), slice(0, 0)), "items of made: none"),
    ],
)  # fmt: skip
def test_what_no_metric_can_be_of(of, said):
    with pytest.raises(StagewiseError, match=said):
        summarise(of)


def test_an_unknown_metric():
    with pytest.raises(UsageError, match="'accuracy': not one of scored items; valid are acc, acc_norm"):
        per_item(made(13), "accuracy")
