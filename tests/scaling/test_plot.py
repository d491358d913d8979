"""Pictures say what the result objects say. Oracle: the numbers of the objects drawn."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.classes import classify
from scaling.cluster import cluster_tasks
from scaling.curves import CurveSet, fit_curves
from scaling.errors import UsageError
from scaling.estimators import ConstantLaw, PowerLaw, SigmoidLaw
from scaling.plot import plot_clusters, plot_curve, plot_curves, plot_law, plot_windows, save
from scaling.plot.canvas import labels_of, power, short
from scaling.scores import ScoreTable
from scaling.series import Key
from scaling.windows import windows_of
from tests.scaling import synthetic

FACTS = synthetic.facts(flat={"chance": 0.25, "majority_rate": 0.27})


@pytest.fixture(scope="module")
def table() -> ScoreTable:
    tasks = {
        "rises": synthetic.sigmoid(0.25, 0.9, 20.0, 2.0),
        "rises_late": synthetic.sigmoid(0.25, 0.9, 22.5, 3.0),
        "flat": synthetic.constant(0.25),
    }
    return synthetic.table_of(tasks, runs=12, run_sd=0.004, checkpoint_sd=0.004)


@pytest.fixture(scope="module")
def found(table):
    return classify(table, stage="1e19..1e21", replicates=40, facts=FACTS)


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in (*ax.texts, *ax.get_yticklabels())]


def test_windows_show_every_task_and_are_sorted_by_opening(found) -> None:
    ax = plot_windows(found)
    names = [text.get_text() for text in ax.get_yticklabels()]
    by_name = {task.task: task for task in found.tasks}
    assert set(by_name) == {name for name in names if name in by_name}
    opens = [by_name[name].opens for name in names if name in by_name]
    known = [value for value in opens if np.isfinite(value)]
    assert known == sorted(known)
    assert np.isnan(opens[len(known) :]).all()


def test_a_bar_begins_and_ends_where_the_window_does(found) -> None:
    ax = plot_windows(found)
    task = next(task for task in found.tasks if task.task == "rises")
    names = [text.get_text() for text in ax.get_yticklabels()]
    row = names.index("rises")
    bars = [bar for bar in ax.patches if getattr(bar, "get_y", None) and bar.get_zorder() == 3]
    mine = [bar for bar in bars if bar.get_y() < row < bar.get_y() + bar.get_height()]
    assert min(bar.get_x() for bar in mine) == pytest.approx(task.opens)
    end = max(bar.get_x() + bar.get_width() for bar in mine)
    assert end == pytest.approx(min(task.closes, ax.get_xlim()[1]))


def test_windows_state_the_stage_the_counts_and_the_probability(found) -> None:
    said = "\n".join(texts(plot_windows(found)))
    assert "stage $10^{19}$ to $10^{21}$" in said
    for name, count in found.counts().items():
        assert (f"{count} {name}" in said) == (count > 0)
    task = next(task for task in found.tasks if task.task == "rises")
    assert f"{task.klass} {task.p_early_signal:.2f}" in said


def test_metrics_are_kept_apart(table) -> None:
    frame = table.frame[table.frame.task == "rises"]
    bits = frame.assign(metric="bpb", score=2.0 - frame.score)
    both = ScoreTable.from_frame(pd.concat([frame, bits]))
    ax = plot_windows(classify(both, early_by=1e20, replicates=20, facts=FACTS))
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == ["acc", "rises", "", "bpb", "rises"]


def test_the_figure_grows_with_the_tasks_and_given_axes_are_used(found) -> None:
    ax = Figure().add_subplot()
    assert plot_windows(found, ax=ax) is ax
    few = plot_windows(found).figure.get_size_inches()
    assert few[1] < 5


def test_curve_shows_points_window_and_chance(table) -> None:
    curves = fit_curves(table, replicates=0, facts=FACTS)
    ax = plot_curve(curves["rises"])
    title = ax.get_title(loc="left")
    assert title.startswith("rises (acc, 0-shot)")
    opens = windows_of(curves["rises"]).opens[0]
    span = next(patch for patch in ax.patches if patch.get_label() == "window")
    assert np.log10(span.get_x()) == pytest.approx(opens)  # pyright: ignore
    assert any("chance 25%" in text for text in texts(ax))
    drawn = sum(len(points.get_offsets()) for points in ax.collections if len(points.get_offsets()) > 1)
    assert drawn >= len(curves["rises"].series.x)


def test_curve_without_a_window_says_so(table) -> None:
    ax = plot_curve(fit_curves(table, replicates=0, facts=FACTS)["flat"])
    assert "no window" in ax.get_title(loc="left")
    assert not [patch for patch in ax.patches if patch.get_label() == "window"]


def test_too_few_clusters_have_no_band() -> None:
    table = synthetic.table_of(
        {"rises": synthetic.sigmoid(0.25, 0.9, 20.0, 2.0)}, runs=3, checkpoint_sd=0.004
    )
    ax = plot_curve(fit_curves(table, replicates=0, facts=FACTS)["rises"])
    assert not any("interval" in text.get_text() for text in ax.get_legend().get_texts())


def test_several_curves_share_a_figure(table) -> None:
    curves = fit_curves(table, replicates=0, facts=FACTS)
    axes = plot_curves(curves)
    assert len({id(ax.figure) for ax in axes}) == 1 and len(axes) == 3
    many = CurveSet(curves.curves * 9, (), 0)
    with pytest.raises(UsageError, match="valid is up to 24"):
        plot_curves(many)


def test_clusters_order_matrix_and_tree_alike(table) -> None:
    rng = np.random.default_rng(0)
    frame = table.frame[table.frame.task == "rises"]
    parts = [
        frame.assign(task=f"t{i}", score=np.clip(frame.score + rng.normal(0, 0.02, len(frame)), 0, 1))
        for i in range(6)
    ]
    parts_table = ScoreTable.from_frame(pd.concat(parts))
    clusters = cluster_tasks(fit_curves(parts_table, replicates=0, facts=FACTS), resamples=10)
    tree, matrix = plot_clusters(clusters)
    names = [text.get_text() for text in matrix.get_yticklabels()]
    shown = np.asarray(matrix.images[0].get_array())
    where = {key.task: i for i, key in enumerate(clusters.keys)}
    order = [where[name] for name in names]
    np.testing.assert_allclose(shown, clusters.rho[np.ix_(order, order)])
    assert tree.get_ylim() == matrix.get_ylim()
    assert clusters.criterion in tree.figure.get_suptitle().replace("\n", " ")  # pyright: ignore
    axes = Figure().subplots(1, 2)
    assert plot_clusters(clusters, axes=axes)[0] is axes[0]


def test_laws_draw_themselves() -> None:
    x = np.linspace(18, 22, 9)
    y = 0.25 + 0.5 / (1 + np.exp(-2 * (x - 20)))
    assert "midpoint 20" in SigmoidLaw(lower=0.25).fit(x, y).plot().get_title(loc="left")
    for law in (PowerLaw().fit(x, 3 - y), ConstantLaw().fit(x, y)):
        assert isinstance(plot_law(law), Axes)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_saved_pictures_are_the_same_bytes_again(found, tmp_path, suffix) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    save(plot_windows(found), first)
    save(plot_windows(found), second)
    assert first.stat().st_size > 1000
    assert first.read_bytes() == second.read_bytes()


def test_nothing_loads_pyplot() -> None:
    code = "import sys, scaling.plot; assert 'matplotlib.pyplot' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_labels_say_no_more_than_tells_keys_apart() -> None:
    keys = [Key("a", "acc", 0), Key("a", "acc", 5), Key("b", "acc", 0)]
    assert labels_of(keys) == ["a (0-shot)", "a (5-shot)", "b"]
    assert labels_of([Key("a", "acc", None), Key("a", "bpb", None)]) == ["a (acc)", "a (bpb)"]
    assert short("bigbench_elementary_math_qa", 16) == "bigbench…math_qa"
    assert (power(1e19), power(9.99e18)) == ("$10^{19}$", "$10^{19}$")
