"""The page about scores: what stands on it, what it escapes, and that the same scores give the same bytes.

Oracle: the world in world.py, whose windows, rises and noise were put in; the suite and classes themselves.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evalsuite import report_series
from evalsuite.build import build
from evalsuite.report import Report
from evalsuite.report_page import letter, page
from evalsuite.report_scores import ScoreReport, middle_third
from evalsuite.report_windows import COLOURS, windows_picture
from evalsuite.settings import Settings
from evalsuite.suite import Suite
from scaling.errors import StagewiseError, UsageError
from scaling.scores import ScoreTable
from tests.evalsuite.console import caller
from tests.evalsuite.test_report import EVIL, Page
from tests.evalsuite.watched import judging, run_folder
from tests.evalsuite.world import STAGE, TASKS, scores, table

HARM = f"</script>{EVIL}<!--"
FEW = {"alpha": (20.0, 0.6), "beta": (20.1, 0.6), "flat": (20.0, 0.0)}


@pytest.fixture(scope="module")
def found() -> ScoreReport:
    return ScoreReport.of(
        table(), stage=STAGE, metrics=["acc", "p_correct"], replicates=24, name="world", command="made so"
    )


@pytest.fixture(scope="module")
def html(found) -> str:
    return found.html()


def data(text: str) -> dict:
    """What the page's script reads."""
    told = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert told is not None
    return json.loads(told[1])


class Plain(Page):
    """A page whose scripts are no text."""

    def handle_data(self, data):
        if self.open[-1:] != ["script"]:
            super().handle_data(data)


# --- what stands on it ----------------------------------------------------------------------------------


def test_the_windows_come_first_and_are_told(html):
    told = Plain(html).words
    order = [told.index(one) for one in ("Where tasks tell", "SNR", "Clusters Tasks of one", "why it is in")]
    assert order == sorted(order) and told.rindex("Provenance") > order[-1]
    assert re.search(r"of 7 tasks, by their best metric, .*early means open by 1e21 FLOPs", told)


def test_a_row_for_each_task_and_metric(found, html):
    """Oracle: the classes."""
    frame = found.to_frame()
    for row, told in zip(frame.to_dict("records"), data(html)["rows"], strict=True):
        assert (told["task"], told["metric"], told["class"]) == (row["task"], row["metric"], row["class"])
        assert told["evidence"] == row["evidence"]
        assert told["opens"] == (None if np.isnan(row["opens"]) else pytest.approx(row["opens"], rel=1e-3))
    assert len(frame) == html.count("<tr data-row=") == 14
    # A close that nobody has seen is no number.
    assert all(told["closes"] is None or told["closes"] <= 1.001e22 for told in data(html)["rows"])


def test_bars_stand_where_windows_are(found):
    """Oracle: the classes; the axis runs from 1e18 to one decade beyond 1e22."""
    picture = found.picture()
    rows = {row.task: row for column in picture.columns for group in column for row in group.rows}
    assert set(rows) == set(TASKS) and picture.tasks == len(TASKS)
    assert picture.unseen == pytest.approx(80)
    for i, one in enumerate(found.classification.tasks):
        bar = next(bar for bar in rows[one.task].bars if bar.series == i)
        drawn = [part for part in bar.pieces if part.shade in ("likely", "sure", "unseen")]
        if np.isnan(one.opens):
            assert not bar.pieces
            continue
        assert min(part.x for part in drawn) == pytest.approx((np.log10(one.opens) - 18) * 20, abs=0.05)
        end = 100 if np.isinf(one.closes) else (np.log10(one.closes) - 18) * 20
        assert max(part.x + part.width for part in drawn) == pytest.approx(
            end, abs=0.6 if one.opens == one.closes else 0.05
        )
        assert all(0 <= part.x and part.x + part.width <= 100.01 for part in bar.pieces)
        assert all(part.shade in ("unseen", "may") for part in bar.pieces if part.x >= 80.01)


def test_tasks_stand_by_class_and_then_by_opening(found):
    picture = found.picture()
    (column,) = picture.columns
    assert column[0].name == "early-signal" and column[-1].name != "early-signal"
    tasks = found.classification.tasks
    opens = [min(tasks[bar.series].opens for bar in row.bars) for row in column[0].rows]
    assert opens == sorted(opens)
    assert sum(group.count for group in column) == len(TASKS) == sum(picture.counts.values())


def test_many_tasks_stand_in_two_columns(found):
    """Each task once, the two columns of about the same height."""
    tasks = tuple(replace(one, task=f"{one.task}{i}") for i in range(8) for one in found.classification.tasks)
    curves = tuple(
        replace(curve, series=replace(curve.series, key=one.key))
        for one, curve in zip(tasks, 8 * found.classification.curves.curves, strict=True)
    )
    many = replace(
        found.classification, tasks=tasks, curves=replace(found.classification.curves, curves=curves)
    )
    left, right = windows_picture(many).columns
    names = [row.task for column in (left, right) for group in column for row in group.rows]
    assert len(names) == len(set(names)) == 8 * len(TASKS)
    heights = [sum(len(group.rows) + 1.5 for group in column) for column in (left, right)]
    assert abs(heights[0] - heights[1]) <= 4
    assert all(group.more == (group.name == left[-1].name) for group in right[:1])


def test_bits_and_accuracy_have_a_colour_each():
    frame = scores(tasks={"alpha": (20.0, 0.6), "beta": (20.1, 0.6)})
    frame.loc[frame["metric"] == "p_correct", "metric"] = "bpb"
    frame.loc[(frame["metric"] == "acc") & (frame["task"] == "beta"), "metric"] = "acc_norm"
    found = ScoreReport.of(ScoreTable.from_frame(frame), stage=STAGE, replicates=20)
    assert found.picture().colours == ("bpb", "acc, acc_norm")
    assert {one["metric"] for one in found.series} == {"bpb", "acc", "acc_norm"}


def test_curves_are_those_of_the_fit(found, html):
    """Oracle: the curves and their intervals."""
    told = data(html)
    for curve, drawn in zip(found.classification.curves, told["curves"], strict=True):
        x = np.linspace(drawn["from"], drawn["to"], len(drawn["line"]))
        reach = np.ptp(curve.series.y)
        assert np.allclose(drawn["line"], curve.values(x)[0], atol=2e-3 * reach)
        assert np.allclose(drawn["low"], curve.interval(10**x)[0], atol=4e-3 * reach)
        places = told["sets"][drawn["set"]]
        assert np.allclose(places["x"], curve.series.x, atol=1e-3) and set(places["final"]) == {"1"}
        assert np.allclose(drawn["y"], curve.series.y, atol=1e-3 * reach)
    assert len(told["sets"]) == 1  # the same models: their places stand once
    assert len(told["runs"]) == 24 and told["runs"][0][0] == "m0, seed 0"


def test_models_are_told_apart_by_size():
    frame = scores(tasks={"alpha": (20.0, 0.6), "beta": (20.1, 0.6)})
    frame["params"] = frame["model"].str[1:].astype(int) + 1.0
    told = data(ScoreReport.of(ScoreTable.from_frame(frame), metrics=["acc"], replicates=20).html())
    sizes = {run[0].partition(",")[0]: run[1] for run in told["runs"]}
    assert len(told["sizes"]) <= 6 and told["sizes"][0].startswith("1") and told["sizes"][-1].endswith("12")
    assert [sizes[f"m{i}"] for i in range(12)] == sorted(sizes.values())


def test_the_suite_says_why_each_task_is_in_or_out(found, html):
    """Oracle: the suite that `build` gives for the same scores."""
    shown = table().where(table().frame["metric"] != "margin", "x")
    suite = build(shown, STAGE, replicates=24).suite
    assert found.suite is not None and found.suite.body() == suite.body()
    told = Plain(html).words
    for one in (*suite.tasks, *suite.held_out, *suite.dropped):
        assert one.reason in told, one.task
    roles = {(one["task"], one["metric"]): one["role"] for one in found.series}
    assert roles[suite.tasks[0].task, "acc"] == "scored" and roles["flat", "acc"] in ("", "out")


def test_clusters_are_listed_with_their_correlation(found, html):
    """Oracle: the matrix of correlations; noisy tasks are left out."""
    clusters = found.clusters
    assert clusters is not None
    names = [key.task for one in found.groups for key, _ in one["members"]] + found.alone
    assert sorted(names) == sorted(set(names)) and "flat" not in names
    for one in found.groups:
        where = [clusters.keys.index(key) for key, _ in one["members"]]
        pairs = [clusters.rho[i, j] for i in where for j in where if i < j]
        assert one["rho"] == pytest.approx(np.mean(pairs)) and f"{len(where)} tasks" in html


def test_a_suite_of_a_file_is_shown_as_it_is(found, tmp_path):
    assert found.suite is not None
    found.suite.write(tmp_path / "suite.yaml", "x")
    suite = Suite.read(tmp_path / "suite.yaml")
    again = ScoreReport.of(table(), suite=suite, metrics=["acc", "p_correct"], replicates=24)
    assert again.suite == suite and not again.built
    assert again.classification.settings == found.classification.settings  # stage and thresholds are its own
    assert "As its file has it" in Plain(again.html()).words


def test_no_suite_is_a_reason_not_an_error():
    flat = table(tasks={"flat": (20.0, 0.0), "level": (20.0, 0.0)})
    found = ScoreReport.of(flat, stage=STAGE, metrics=["acc"], replicates=20)
    assert found.suite is None and "no task qualifies" in Plain(found.html()).words
    assert found.clusters is None and "nothing to compare" in Plain(found.html()).words


def test_provenance(found, html):
    told = Plain(html).words
    assert table().digest in told and "made so" in told and "24 replicates, seed 0" in told
    assert found.provenance["versions"]["numpy"] in told and "acc, p_correct" in told


def test_the_data_is_plain_and_whole(found):
    from scaling.console import plain

    told = json.loads(json.dumps(plain(found.to_dict()), allow_nan=False))
    assert set(told) == {"name", "classes", "clusters", "suite", "unbuilt", "omissions", "provenance"}
    assert len(told["classes"]["tasks"]) == 14 and told["suite"]["tasks"]


def test_the_olmo_ladder(shared):
    """Real scores: 24 models, of which bpb opens before accuracy does."""
    from scaling.readers import read_scores

    read = read_scores(shared / "scores" / "olmo_ladder_190M-1B.parquet")
    names = ["arc_challenge", "hellaswag", "openbookqa", "winogrande"]
    few = read.where(read.frame["task"].isin(names), "another task")
    found = ScoreReport.of(few, stage="1e19..3e20", replicates=20)
    opens = {(one["task"], one["metric"]): one["opens"] for one in found.series}
    assert set(opens) == {(name, metric) for name in names for metric in ("bpb", "acc_norm")}
    for name in names:
        assert opens[name, "bpb"] <= opens[name, "acc_norm"], name
    told = data(found.html())
    assert len(told["runs"]) == 24 and told["sizes"] == ["190M", "371M", "758M", "1.28B"]


# --- what may be asked ----------------------------------------------------------------------------------


def test_metrics_that_are_shown_unasked():
    """bpb, and of each task the accuracy that the table of metrics lists first; no p_correct beside acc."""
    found = ScoreReport.of(table(tasks=FEW), stage=STAGE, replicates=20)
    assert {one["metric"] for one in found.series} == {"acc"}
    assert any("not shown" in one.what for one in found.shown.omissions)
    with pytest.raises(StagewiseError, match=r"no scores of em; valid is --metric with some of acc, margin"):
        ScoreReport.of(table(), metrics=["em"])


def test_the_stage_is_the_middle_third_unless_asked():
    """Oracle: 1e18 to 1e22 in three equal parts of a log scale."""
    found = middle_third(table())
    assert (found.low, found.high) == pytest.approx((10 ** (18 + 4 / 3), 10 ** (18 + 8 / 3)), rel=0.05)
    frame = scores().assign(flops=1e20)
    with pytest.raises(StagewiseError, match="not of several computes"):
        middle_third(ScoreTable.from_frame(frame.drop_duplicates(["model", "seed", "task", "metric"])))
    named = Settings.model_validate({"stages": {"mine": {"low": 1e19, "high": 1e21}}})
    told = ScoreReport.of(table(tasks=FEW), stage="mine", settings=named, metrics=["acc"], replicates=20)
    assert told.classification.settings.stage == (1e19, 1e21)
    with pytest.raises(UsageError, match="replicates: got 3"):
        ScoreReport.of(table(), replicates=3)


def test_names_of_clusters():
    """Oracle: columns of a spreadsheet."""
    assert [letter(one) for one in (1, 2, 26, 27, 52, 53, 703)] == ["A", "B", "Z", "AA", "AZ", "BA", "AAA"]


# --- safe, small, the same ------------------------------------------------------------------------------


def test_it_needs_nothing_but_itself(html):
    told = Page(html)
    assert not {name for name, _ in told.tags} & {"link", "img", "iframe", "object", "use", "image", "base"}
    assert "://" not in html.replace("http://www.w3.org/2000/svg", "") and "@import" not in html
    assert {one["href"] for one in told.all("a")} <= {
        f"#{attrs['id']}" for _, attrs in told.tags if "id" in attrs
    }
    scripts = re.findall(r"<script>(.*?)</script>", html, re.S)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = next(x["content"] for x in told.all("meta") if x.get("http-equiv") == "Content-Security-Policy")
    # No other script can run.
    assert len(scripts) == 1
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_what_a_task_or_a_model_is_called_is_text():
    frame = scores(tasks={"alpha": (20.0, 0.6), "beta": (20.1, 0.6), f"a{HARM}": (20.0, 0.5)})
    frame["model"] = frame["model"] + HARM
    frame["source"] = HARM
    found = ScoreReport.of(ScoreTable.from_frame(frame), stage=STAGE, replicates=20, name=HARM, command=HARM)
    html = found.html()
    assert html.count("<script") == 2 and html.count("</script") == 2 and "<!--" not in html
    assert f"a{HARM}" in Plain(html).text
    assert f"a{HARM}" in {one["task"] for one in data(html)["rows"]}
    assert all(HARM in run[0] for run in data(html)["runs"])
    assert not [attrs for _, attrs in Page(html).tags if "quoted" in attrs or "onload" in attrs]


def test_it_can_be_used_without_sight_or_mouse(html):
    told = Page(html)
    ids = [attrs["id"] for _, attrs in told.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) and len(told.all("h1")) == 1
    for one in told.all("svg"):
        assert one.get("aria-hidden") == "true" or one.get("aria-label") or one.get("aria-labelledby"), one
    assert all("scope" in attrs for attrs in told.all("th"))
    areas = [one for one in told.all("div") if (one.get("class") or "").startswith("scroll")]
    assert areas and all(one["tabindex"] == "0" and one["aria-label"] for one in areas)
    assert len([one for one in told.all("button") if "data-sort" in one]) == 9


def test_every_colour_of_a_metric_is_one_in_light_and_dark(html):
    for i in range(COLOURS):
        assert html.count(f"--m{i}: #") == 2 and f".c{i} {{ --c: var(--m{i}); }}" in html


def test_the_same_scores_give_the_same_bytes(html):
    shuffled = ScoreTable.from_frame(scores().sample(frac=1, random_state=3))
    again = ScoreReport.of(
        shuffled, stage=STAGE, metrics=["acc", "p_correct"], replicates=24, name="world", command="made so"
    )
    assert again.html() == html


def test_nine_hundred_curves_stay_under_five_megabytes(monkeypatch):
    """What one curve takes, of 6 with more scores than are drawn and no two with the same places."""
    rng = np.random.default_rng(0)
    frame = scores(tasks=FEW)
    many = []
    for step in range(1, 9):
        more = frame.assign(step=step, score=(frame["score"] + rng.normal(0, 0.003, len(frame))).clip(0, 1))
        more["flops"] = more["flops"] * step / 8 * rng.uniform(0.9, 1.1, len(frame))
        many.append(more)
    import pandas as pd

    wide = ScoreTable.from_frame(pd.concat(many))
    settings = Settings(points="all")
    monkeypatch.setattr(report_series, "_NUMBERS", report_series._NUMBERS * 6 / 900)
    found = ScoreReport.of(wide, stage=STAGE, metrics=["acc", "p_correct"], settings=settings, replicates=20)
    told = data(found.html())
    assert len(told["sets"]) == 6 and all(len(one["y"]) == 100 < one["of"] for one in told["curves"])
    fixed = 60_000  # style and script
    assert (len(found.html().encode()) - fixed) / 6 * 900 + fixed < 5e6


# --- both parts, and the command ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return run_folder(tmp_path_factory.mktemp("run") / "base-150m", [100, 200, 300], 300, events=())


def test_a_run_stands_below_its_scores_and_its_compute_is_marked(found, run, monkeypatch):
    monkeypatch.setattr("evalsuite.alarms.watch", judging("code", noticed=300, since=200))
    report = Report.of(run)
    report = Report(replace(report.overview, run=replace(report.overview.run, flops=1e20)))
    told = Plain(both := page(report, found))
    assert (
        told.words.index("why it is in")
        < told.words.index("The run base-150m")
        < told.words.index("falls behind")
    )
    assert "Tasks of the run" in told.words and "All tasks" in told.words
    ids = [attrs["id"] for _, attrs in told.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert found.picture(1e20).run == pytest.approx(40) and found.picture(1e30).run is None
    assert "where the run is" in both and 'class="now"' in both
    beyond = replace(report.overview.run, flops=1e30)
    assert "where the run is" not in page(Report(replace(report.overview, run=beyond)), found)


@pytest.fixture
def call(monkeypatch, capsys):
    monkeypatch.setattr("evalsuite.alarms.watch", judging("code", noticed=300, since=200))
    return caller(monkeypatch, capsys)


def test_the_command_writes_scores_and_a_run(call, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(tasks=FEW).write(tmp_path / "world.parquet")
    args = ["world.parquet", "--stage", STAGE, "--metric", "a*", "--replicates", "20"]
    code, out, err = call("report", *args, "-o", "a.html")
    assert (code, out) == (0, "") and re.search(
        r"a\.html: 3 curves, \d early-signal, .*suite of \d task", err
    )
    told = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "evalsuite report world.parquet --stage 1e19..1e21 --metric &#39;a*&#39; --replicates 20" in told
    code, out, err = call("report", str(run), *args, "-o", "both.html", "--json")
    assert code == 0 and "3 curves" in err and "3 evaluations, 1 alarm(s)" in err
    assert "falls behind" in (tmp_path / "both.html").read_text(encoding="utf-8")
    data = json.loads(out)
    assert data["run"]["step"] == 300 and len(data["scores"]["classes"]["tasks"]) == 3


def test_the_scores_of_the_package_come_with_their_settings(call, tmp_path, monkeypatch):
    """Their stages and their note, whatever stands in the working folder."""
    monkeypatch.chdir(tmp_path)
    run_folder(tmp_path / "ladder", [100, 200], 300, events=())
    small = table(tasks=FEW).frame.assign(flops=lambda frame: frame["flops"] / 1e8)  # 1e10 to 1e14
    monkeypatch.setattr("scaling.embedded.ladder", lambda kind: ScoreTable.from_frame(small))
    code, _, err = call("report", "ladder", "--stage", "mid", "--replicates", "20", "-o", "a.html")
    assert code == 0, err
    told = Plain((tmp_path / "a.html").read_text(encoding="utf-8")).words
    assert "stage 3e11 to 6e12" in told and "A ladder of tiny models speaks for tiny models" in told
    assert "evalsuite report ladder --stage mid --replicates 20" in told


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("RUN", "--stage", "early", "-o", "a.html"), 2, "--stage: is about scores, and none are given"),
        (("RUN", "RUN", "-o", "a.html"), 2, "valid is one to a page"),
        (("world.csv", "--stage", "nosuch", "-o", "a.html"), 2, "stage 'nosuch': no such name"),
        (("world.csv", "--metric", "bleu", "-o", "a.html"), 2, "--metric 'bleu': none there"),
        (("empty", "-o", "a.html"), 1, "empty: no run here, and no scores"),
        (("world.csv", "--suite", "none.yaml", "-o", "a.html"), 1, "none.yaml"),
    ],
)
def test_a_wrong_call_is_one_error(call, run, tmp_path, monkeypatch, args, code, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    table(tasks={"alpha": (20.0, 0.6)}).write(tmp_path / "world.csv")
    found, out, err = call("report", *(str(run) if one == "RUN" else one for one in args))
    assert found == code and not out and said in " ".join(err.split()) and "Traceback" not in err
    assert not (tmp_path / "a.html").exists()
