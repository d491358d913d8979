"""The evidence behind a choice: moments as numpy has them, columns that can be compared, pairs of recipes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evalsuite.objective import BETWEEN, balanced, from_curves, from_recipes, moments
from scaling.agreement import PAIRS_NEEDED
from scaling.curves import fit_curves
from scaling.errors import StagewiseError
from scaling.noise import scale_of
from scaling.scores import ScoreTable
from scaling.series import Key
from tests.evalsuite.world import TASKS, one_factor, recipe_scores, scores

LOAD = np.array([0.9, 0.7, 0.5, 0.3, 0.8])


def centred(**options):
    """Columns of mean zero, for which the second moment is the correlation."""
    found = one_factor(LOAD, **options)
    values = found.small - found.small.mean(axis=0)
    return replace(found, small=3.0 * values, target=7.0 * values)


def test_moments_without_shrinkage_are_numpys() -> None:
    """Oracle: numpy.corrcoef; the scale of columns has no part in it."""
    found = centred()
    rho = np.corrcoef(found.small.T)
    known = moments(found, 0.0)
    assert known.rho == pytest.approx(rho, abs=1e-12)
    apart = ~np.eye(len(LOAD), dtype=bool)
    assert known.pull == pytest.approx([rho[i][apart[i]].mean() for i in range(len(LOAD))])
    assert known.spread == pytest.approx(rho[apart].mean())


def test_moments_of_a_planted_factor() -> None:
    """Oracle: the closed form, tasks i and j correlate load_i load_j."""
    known = moments(one_factor(LOAD, rows=20_000), 0.0)
    truth = np.outer(LOAD, LOAD)
    np.fill_diagonal(truth, 1.0)
    assert known.rho == pytest.approx(truth, abs=0.03)


def test_full_shrinkage_takes_all_tasks_for_alike() -> None:
    """Oracle: by hand, the mean correlation off the diagonal stands everywhere."""
    found = centred()
    rho = np.corrcoef(found.small.T)
    apart = ~np.eye(len(LOAD), dtype=bool)
    known = moments(found, 1.0)
    assert known.rho[apart] == pytest.approx(np.full(apart.sum(), rho[apart].mean()))
    assert np.diag(known.rho) == pytest.approx(np.ones(len(LOAD)))
    assert np.ptp(known.pull) == pytest.approx(0.0)
    assert known.pull[0] == pytest.approx(moments(found, 0.0).pull.mean())
    half = moments(found, 0.5)
    assert half.rho == pytest.approx((moments(found, 0.0).rho + known.rho) / 2)


def test_unrelated_tasks_keep_a_floor() -> None:
    """Planted: tasks that share nothing; the common correlation does not fall below its floor."""
    known = moments(one_factor(np.zeros(6), rows=300), 1.0)
    apart = ~np.eye(6, dtype=bool)
    assert known.rho[apart] == pytest.approx(np.full(30, BETWEEN))
    assert known.spread == pytest.approx(BETWEEN) and (known.pull >= BETWEEN - 1e-12).all()


def test_a_task_is_not_pulled_by_its_own_benchmark() -> None:
    """Planted: other numbers of a benchmark at the target move the pull of all tasks but its own."""
    found = one_factor(LOAD, benchmarks=["a", "a", "b", "c", "d"])
    other = found.target.copy()
    other[:, :2] = np.random.default_rng(5).standard_normal((len(other), 2))
    before, after = moments(found, 0.0).pull, moments(replace(found, target=other), 0.0).pull
    assert after[:2] == pytest.approx(before[:2], abs=1e-12)
    assert (np.abs(after[2:] - before[2:]) > 1e-3).all()


def test_parts_of_a_benchmark_pull_as_one() -> None:
    """Oracle: the same by hand with each benchmark's mean in place of its parts."""
    names = ["a", "a", "b", "c", "d"]
    found = one_factor(LOAD, benchmarks=names)
    means = np.column_stack([found.target[:, np.array(names) == one].mean(axis=1) for one in "bcd"])
    wanted = (found.small[:, :1] * means).mean(axis=0).mean()
    assert moments(found, 0.0).pull[0] == pytest.approx(wanted)


@pytest.mark.parametrize("names", [["a"], ["a", "b", "a", "a"], ["x", "y", "z"], list("abcabcaa")])
def test_weights_are_equal_for_benchmarks_and_for_their_parts(names: list[str]) -> None:
    """Closed form: 1 / (benchmarks * parts)."""
    array = np.array(names)
    weights = balanced(array)
    assert weights.sum() == pytest.approx(1.0)
    for name in set(names):
        assert weights[array == name].sum() == pytest.approx(1 / len(set(names)))
        assert np.ptp(weights[array == name]) == 0.0
    assert balanced(np.array([], dtype=str)).shape == (0,)


def test_the_goal_is_the_mean_of_benchmark_means() -> None:
    found = one_factor(LOAD, benchmarks=["a", "a", "b", "c", "d"])
    parts = [found.target[:, :2].mean(axis=1), *found.target[:, 2:].T]
    assert found.goal() == pytest.approx(np.mean(parts, axis=0))
    only = found.against(["a", "c"])
    assert only.goal() == pytest.approx((parts[0] + parts[2]) / 2)
    assert found.candidates(np.array([3, 0])).keys == (found.keys[3], found.keys[0])


@pytest.fixture(scope="module")
def curves():
    frame = scores()
    # A task that the last family alone lacks, and models that have one task in seven only.
    frame = frame[(frame["metric"] == "acc") & ~((frame["task"] == "beta") & (frame["family"] == "f11"))]
    return fit_curves(ScoreTable.from_frame(frame[(frame["family"] != "f0") | (frame["task"] == "alpha")]),
                      replicates=0)  # fmt: skip


def test_columns_are_centred_of_mean_square_one_and_rows_hold_half(curves) -> None:
    """Planted: 12 families of two runs; f0 has one task in seven and is left out, f11 lacks one of seven."""
    found = from_curves(list(curves))
    assert found.small.shape == (22, len(TASKS)) and found.kind == "latent agreement"
    assert found.small.mean(axis=0) == pytest.approx(np.zeros(len(TASKS)), abs=1e-12)
    assert (found.small**2).mean(axis=0) == pytest.approx(np.ones(len(TASKS)))
    at = [key.task for key in found.keys].index("beta")
    assert (found.small[:, at] == 0).sum() == 2
    assert len(np.unique(found.groups)) == 11 and (found.groups[:, 0] == found.groups[:, 1]).all()
    assert np.isin(found.x.round(6), np.log10(10.0 ** np.linspace(18, 22, 12)).round(6)).all()


def test_the_share_of_sampling_noise_is_the_binomial_one(curves) -> None:
    """Closed form: p (1 - p) / n over the spread around the curve, in units of p (1 - p)."""
    found = from_curves(list(curves))
    for i, curve in enumerate(curves):
        series = curve.series
        level = curve.values(series.x)[0]
        residual = (series.y - level) / scale_of("proportion", level)
        share = min(1 / 1000 / residual.var(), 0.95)
        assert found.sampling[i] == pytest.approx(share)


def test_families_are_one_group_even_where_a_curve_has_few_of_them() -> None:
    """Planted: one task has five families, too few to be resampled whole; its points find their rows."""
    frame = scores(tasks={"alpha": (20.0, 0.6), "beta": (20.1, 0.6), "gamma": (19.8, 0.5)})
    frame = frame[frame["metric"] == "acc"]
    five = frame["family"].isin([f"f{i}" for i in range(1, 11, 2)])
    table = ScoreTable.from_frame(frame[(frame["task"] != "gamma") | five])
    found = from_curves(list(fit_curves(table, replicates=0)))
    assert found.small.shape[0] == 24
    assert len(np.unique(found.groups)) == 12
    assert (found.small[:, 2] != 0).sum() == 10


def test_too_few_shared_points_are_an_error() -> None:
    """Planted: two tasks scored on models of their own."""
    frame = scores(tasks={"alpha": (20.0, 0.6), "beta": (20.1, 0.6), "gamma": (20.1, 0.6)})
    number = frame["family"].str[1:].astype(int) % 3
    own = (frame["task"].map({"alpha": 0, "beta": 1, "gamma": 2}) == number) & (frame["metric"] == "acc")
    table = ScoreTable.from_frame(frame[own])
    with pytest.raises(StagewiseError, match=r"0 point\(s\) hold half of any three candidates, 4 are needed"):
        from_curves(list(fit_curves(table, replicates=0)))
    with pytest.raises(StagewiseError, match="4 are needed"):
        from_curves([])


SMALL, LARGE = (1e19, 1e21), (1e21 * 1.001, 1e30)
KEYS = [Key(task, "acc", 0) for task in TASKS]


def recipes(count: int, **options):
    frame, good = recipe_scores(count, **options)
    share = np.full(len(KEYS), 0.1)
    return from_recipes(ScoreTable.from_frame(frame), KEYS, SMALL, LARGE, sampling=share), good


def test_recipes_need_thirty_pairs() -> None:
    """Closed form: 8 recipes make 28 pairs, 9 make 36."""
    assert recipes(8)[0] is None
    found, _ = recipes(9)
    assert found is not None and found.pairs == len(found.small) == 36 >= PAIRS_NEEDED
    share = np.full(len(KEYS), 0.1)
    table = ScoreTable.from_frame(recipe_scores(9)[0])
    assert from_recipes(table, KEYS, SMALL, (1e25, 1e26), sampling=share) is None  # nobody is that large


def test_differences_are_those_that_were_planted() -> None:
    """Planted: without noise every task orders recipes by how good they are, at both scales."""
    found, good = recipes(10)
    assert found is not None and found.kind == "decision accuracy" and len(found.small) == 45
    first, second = found.groups.T
    truth = good[first] - good[second]
    truth = truth / np.sqrt((truth**2).mean())
    for values in (found.small, found.target):
        assert values == pytest.approx(np.repeat(truth[:, None], len(KEYS), axis=1))
    assert np.isnan(found.x).all() and len(found.sampling) == len(KEYS)
    assert moments(found, 0.0).pull == pytest.approx(np.ones(len(KEYS)))


def test_a_noisy_task_is_pulled_less() -> None:
    """Planted: noise of five times the spread of the recipes in one task of seven."""
    found, _ = recipes(12, noise={task: 0.25 if task == "flat" else 0.005 for task in TASKS})
    assert found is not None
    pull = dict(zip(TASKS, moments(found, 0.0).pull, strict=True))
    assert pull.pop("flat") < min(pull.values()) - 0.3


def test_a_task_without_runs_of_recipes_is_no_evidence() -> None:
    frame, _ = recipe_scores(10, noise={"alpha": 0.0, "beta": 0.0})
    assert from_recipes(ScoreTable.from_frame(frame), KEYS, SMALL, LARGE, sampling=np.ones(7)) is None


def test_sources_with_tasks_of_their_own_make_a_block() -> None:
    """Planted: four tasks scored on all models, two on models that nothing else was scored on."""
    frame = scores(tasks={name: (20.0 + i / 10, 0.6) for i, name in enumerate("abcdef")})
    frame = frame[frame["metric"] == "acc"]
    alone = frame["task"].isin(["e", "f"])
    frame.loc[alone, "model"] = "x" + frame.loc[alone, "model"]
    found = from_curves(list(fit_curves(ScoreTable.from_frame(frame), replicates=0)))
    assert found.told().tolist() == [0, 1, 2, 3] and found.small.shape == (24, 6)
    assert not found.small[:, 4:].any()
