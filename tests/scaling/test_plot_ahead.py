"""Pictures of forecasts, back-tests and decisions. Oracle: the numbers of the objects drawn."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from typer.testing import CliRunner

from scaling.backtests import Backtest, backtest
from scaling.cli import app
from scaling.decisions import decide
from scaling.errors import StagewiseError
from scaling.forecasts import Forecasts, forecast_all
from scaling.plot import plot_backtest, plot_decisions, plot_forecast, save
from scaling.plot.forecast import curves_of
from scaling.scores import ScoreTable
from scaling.series import Key
from tests.scaling import synthetic

FACTS = synthetic.facts()
TARGETS = (1e22, 1e23)


def scores(runs: int = 10) -> ScoreTable:
    rising = {
        "rises": synthetic.sigmoid(0.25, 0.9, 20.0, 1.5),
        "slow": synthetic.sigmoid(0.25, 0.8, 20.5, 1.0),
    }
    options = {"runs": runs, "checkpoints": 4, "high": 21.5, "run_sd": 0.004, "checkpoint_sd": 0.004}
    bits = {name: synthetic.power(0.4, 0.5, 0.2) for name in rising}
    frames = [synthetic.frame_of(rising, **options), synthetic.frame_of(bits, **options, metric="bpb")]
    return ScoreTable.from_frame(pd.concat(frames))


@pytest.fixture(scope="module")
def table() -> ScoreTable:
    return scores()


@pytest.fixture(scope="module")
def found(table) -> Forecasts:
    return forecast_all(table, TARGETS, facts=FACTS)


@pytest.fixture(scope="module")
def tested(table) -> Backtest:
    return backtest(table, cut_flops=1e20, facts=FACTS)


def recipes(count: int = 9) -> ScoreTable:
    """Recipes that keep their order from 1e19 to 1e21 FLOPs on every task; nine of them make 36 pairs."""
    rows = [
        {
            "source": "s", "family": f"r{i}", "model": f"r{i}-{flops:g}", "params": flops / 1e11,
            "tokens": 1e11 / 6, "flops": flops, "task": task, "metric": "acc", "shots": 0,
            "score": 0.3 + 0.02 * i + 0.1 * (flops > 1e20),
        }
        for i in range(count) for flops in (1e19, 1e21) for task in ("one", "two")
    ]  # fmt: skip
    return ScoreTable.from_frame(pd.DataFrame(rows))


def legend(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in (*ax.texts, *ax.get_yticklabels())]


@pytest.mark.parametrize("key", [("rises", "acc"), ("slow", "bpb")])
def test_the_drawn_curve_ends_in_the_forecast(found, key) -> None:
    """Oracle: the forecast's own value and members, made with all tasks of the panel."""
    one = next(one for one in found if (one.key.task, one.key.metric) == key)
    lines, mean = curves_of(one, np.log10(TARGETS))
    np.testing.assert_allclose(mean, one.value, rtol=1e-6)
    members = dict(zip(one.blend.methods, one.blend.members[one.place], strict=True))
    for name, values in lines.items():
        np.testing.assert_allclose(values, members[name], rtol=1e-6)


def test_a_forecast_shows_points_methods_targets_and_the_end_of_the_data(found) -> None:
    one = next(one for one in found if one.key.metric == "acc")
    ax = plot_forecast(one)
    said = legend(ax)
    final = int(one.panel.final.sum())
    assert f"finished runs ({final})" in said
    assert f"checkpoints ({len(one.panel.x) - final})" in said
    weights = one.methods.set_index("method")["weight"]
    shown = curves_of(one, np.log10(TARGETS))[0]
    assert {f"{name} ({weights[name]:.0%})" for name in shown} <= set(said)
    assert "forecast" in said and any("not measured" in text for text in texts(ax))
    shade = next(patch for patch in ax.patches if patch.get_zorder() == 0)
    assert np.log10(shade.get_x()) == pytest.approx(one.panel.x.max())  # pyright: ignore
    assert ax.get_xlim()[1] > TARGETS[1]
    assert f"{100 * one.value[-1]:.1f}%" in ax.get_title(loc="left")


def test_an_interval_is_a_bar_and_its_absence_is_said(found) -> None:
    one = next(one for one in found if np.isfinite(one.low).all())
    bars = plot_forecast(one).containers[0]
    ends = np.array([segment[:, 1] for segment in bars[2][0].get_segments()])  # pyright: ignore
    np.testing.assert_allclose(ends, np.column_stack([one.low, one.high]))
    few = next(iter(forecast_all(scores(runs=4), TARGETS, facts=FACTS)))
    ax = plot_forecast(few)
    assert "target, interval\nnot identified" in legend(ax) and not ax.containers
    assert "interval not identified" in ax.get_title(loc="left")


def test_a_backtest_shows_every_target_and_both_errors(tested) -> None:
    ax = plot_backtest(tested, family="proportion")
    rows = tested.rows[tested.rows["family"] == "proportion"]
    ours = rows[rows["method"] == "forecast"]
    drawn = np.concatenate(
        [np.asarray(one.get_offsets()) for one in ax.collections if len(one.get_offsets())]
    )
    drawn = drawn[np.isin(drawn[:, 0], ours["observed"])]
    assert sorted(map(tuple, drawn)) == sorted(zip(ours["observed"], ours["predicted"], strict=True))
    means = rows.groupby("method")["error"].mean()
    title = ax.get_title(loc="left")
    assert f"mean error {means['forecast']:.3g}, last value {means['last value']:.3g} points" in title
    assert tested.cut in title
    assert ax.get_xlim() == ax.get_ylim()


def test_a_backtest_draws_one_family_of_metrics(tested) -> None:
    assert plot_backtest(tested, family="bits").get_title(loc="left").startswith("bits: mean error")
    with pytest.raises(StagewiseError, match="there are bits, proportion"):
        plot_backtest(tested, family="loss")


def test_decisions_show_shares_intervals_and_pairs() -> None:
    decisions = decide(recipes(), small=1e19, target=1e21, facts=FACTS)
    ax = decisions.plot()
    assert [text.get_text() for text in ax.get_yticklabels()] == ["one", "two"]
    assert texts(ax).count("36") == 2
    assert legend(ax) == ["judged by all other benchmarks", "judged by the same task"]
    points = [line for line in ax.lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in points] == [[1.0, 1.0], [1.0, 1.0]]  # pyright: ignore
    ends = [list(map(tuple, one.get_segments())) for one in ax.collections]  # pyright: ignore
    low = decisions.rows["rest_low"].iloc[0]
    assert any(np.isclose(segment[0][0], low) for one in ends for segment in one)
    assert "36 pairs of 9 recipes" in ax.get_title(loc="left")


def test_few_pairs_are_an_interval_and_no_point() -> None:
    ax = plot_decisions(decide(recipes(5), small=1e19, target=1e21, facts=FACTS))
    assert all(len(np.asarray(line.get_xdata())) == 0 for line in ax.lines if line.get_marker() == "o")
    assert "no claim, 30 needed" in ax.get_title(loc="left")


def test_a_suite_stands_above_its_tasks() -> None:
    found = decide(recipes(), small=1e19, target=1e21, suite={Key("one", "acc", 0): 1.0}, facts=FACTS)
    names = [text.get_text() for text in plot_decisions(found).get_yticklabels()]
    assert names[:3] == ["the suite", "all tasks averaged", "random tasks"] and len(names) == 5


def test_given_axes_are_used_and_pictures_are_the_same_bytes_again(found, tested, tmp_path) -> None:
    decisions = decide(recipes(), small=1e19, target=1e21, facts=FACTS)
    for draw, one in (
        (plot_forecast, found.forecasts[0]),
        (plot_backtest, tested),
        (plot_decisions, decisions),
    ):
        ax = Figure().add_subplot()
        assert draw(one, ax=ax) is ax
        first, second = tmp_path / "a.svg", tmp_path / "b.svg"
        save(one.plot(), first)
        save(one.plot(), second)
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("forecast", ("--target", "1e23", "--task", "rises", "--metric", "acc")),
        ("backtest", ("--cut", "1e20")),
    ],
)
def test_commands_draw(table, tmp_path, command, args) -> None:
    path, out = tmp_path / "scores.parquet", tmp_path / "deep" / "picture.png"
    table.write(path)
    done = CliRunner().invoke(app, [command, str(path), *args, "--plot", str(out)])
    assert done.exit_code == 0, done.output
    assert out.read_bytes()[:4] == b"\x89PNG" and f"written: {out}" in done.stderr


def test_decisions_are_drawn_by_the_command(tmp_path) -> None:
    path, out = tmp_path / "scores.csv", tmp_path / "picture.pdf"
    recipes().write(path)
    args = ["decisions", str(path), "--small", "1e19", "--target", "1e21", "--plot", str(out)]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0, done.output
    assert out.read_bytes()[:4] == b"%PDF"


@pytest.mark.parametrize(
    ("out", "args", "said"),
    [
        ("x.gif", ("--task", "rises", "--metric", "acc"), "valid suffixes are .png, .svg, .pdf"),
        ("x.png", (), "draws one task"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused(table, tmp_path, out, args, said) -> None:
    path = tmp_path / "scores.parquet"
    table.write(path)
    args = ["forecast", str(path), "--target", "1e23", *args, "--plot", str(tmp_path / out)]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 2 and said in done.stderr
    assert list(tmp_path.iterdir()) == [path]
