"""The page about a run: what it says, what it escapes, and that it needs nothing but itself."""

from __future__ import annotations

import re
import shutil
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.evaluations import JOURNAL, Evaluations
from evalsuite.figures import amount, clock, count, evidence, flops, number, span
from evalsuite.overview import Overview
from evalsuite.report import Report
from evalsuite.report_charts import HEIGHT, WIDTH, chart, polyline, spark, ticks
from evalsuite.run_log import RunLog
from evalsuite.run_state import RunState
from scaling.errors import StagewiseError
from tests.evalsuite.watched import EVENTS, TASKS, half_line, hook_folder, judging, run_folder

STEPS = range(200, 3001, 200)
EVIL = "<script>alert('x')</script> & \"quoted\""
FAILED = {"step": 500, "kind": "failed", "what": "evaluation", "suite": "early", "why": f"OSError: {EVIL}"}
SKIPS = [
    {"step": step, "kind": "skipped", "why": f"evaluation would take 3 s; {step} s are spent"}
    for step in (1250, 1260)
]
THIN = {"step": 1200, "kind": "thinned", "share": 0.5, "stride": 1, "why": "to stay within 2.0% of the time"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A run with an alarm, failures, a missing task, doubts, and less asked than planned."""
    return run_folder(
        tmp_path_factory.mktemp("made") / "base-150m", STEPS, 6000, now=3040,
        events=[*EVENTS, FAILED, *SKIPS, THIN],
        missing={step: {"skill_names": "logits are NaN"} for step in (1600, 1800)},
        doubts={200: ["the mean lags"], 400: ["the mean lags"]},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def judged(monkeypatch):
    """Alarms are put in."""
    monkeypatch.setattr("evalsuite.alarms.watch", judging("code", near=(f"mixture phase 1 begins {EVIL}",)))


@pytest.fixture(scope="module")
def page(made) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evalsuite.alarms.watch", judging("code", near=(f"mixture phase {EVIL}",)))
        return Report.of(made).html()


class Page(HTMLParser):
    """Tags that are open, ids, links, texts; a tag that is closed out of turn is an error."""

    VOID = ("meta", "br", "link", "img", "hr", "input")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.text += " " if tag in ("td", "th", "dt", "dd", "p", "h1", "h2", "title") else ""

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


# --- the page -------------------------------------------------------------------------------------------


def test_it_needs_nothing_but_itself(page):
    told = Page(page)
    names = {name for name, _ in told.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "use", "image", "base"}
    links = [attrs["href"] for attrs in told.all("a")]
    assert links and all(one and one.startswith("#") for one in links)
    assert "://" not in page and "url(" not in page and "@import" not in page
    policy = next(x["content"] for x in told.all("meta") if x.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_what_others_wrote_is_text(page):
    """Of an error, and of what changed near an alarm; also no attribute is left by a quote."""
    assert "<script" not in page and page.count("&lt;script&gt;") >= 3
    assert EVIL in Page(page).text
    assert not [attrs for _, attrs in Page(page).tags if "quoted" in attrs or "onload" in attrs]


def test_names_of_tasks_and_runs_are_text(tmp_path):
    evil = TASKS[0].__class__(f"a{EVIL}", f"b{EVIL}", TASKS[0].curve)
    hook = hook_folder(tmp_path / "run <b>", [100, 200, 300], tasks=[evil], suites=["s <i>"], events=())
    told = Report.of(hook).html()
    assert "<script" not in told and "<b>" not in told and "<i>" not in told
    assert f"a{EVIL}" in Page(told).text and "run <b>" in Page(told).text


def test_alarms_come_first_in_words(page):
    told = Page(page).words
    assert told.index("falls behind") < told.index("Capabilities over training") < told.index("skill_add")
    assert "code falls behind since step 2,000: 35.0% more bits per byte than expected; noticed at" in told
    assert "at step 2,400, evidence 83 to 1." in told
    assert "Near it: mixture phase" in told


def test_the_head_says_where_the_run_is(page):
    told = Page(page).words
    assert told.count("base-150m") == 2 and "step 3,040 of 6,000, 51%" in told  # also in the title
    for part in ("compute 7.3e13 FLOPs", "tokens 12.5M", "suite early", "evaluations 15 of means of 4"):
        assert part in told, part
    # Oracle: 15 evaluations of 3.2 s, 2 s of training a step.
    assert f"{100 * 15 * 3.2 / 6000:.2f}% of 2% allowed" in told


def test_what_is_missing_is_said_once_for_many_steps(page):
    told = Page(page).words
    assert "skill_names early steps 1,600–1,800 (2 times) logits are NaN" in told
    assert f"evaluation early step 500 OSError: {EVIL}" in told
    assert "early steps 200–400 (2 times) the mean lags" in told
    assert "thinned step 1,200 to stay within 2.0% of the time" in told
    assert "skipped steps 1,250–1,260 (2 times) evaluation would take 3 s; 1260 s are spent" in told


def test_a_doubt_with_other_figures_is_the_same_doubt(tmp_path):
    doubts = {
        step: [f"the snapshots span {share}% of the steps", "too few"]
        for step, share in ((200, 40), (400, 21.5))
    }
    found = Report.of(hook_folder(tmp_path / "a", [200, 400], doubts=doubts)).doubts
    assert found.to_dict("records") == [
        {
            "suite": "early",
            "why": "the snapshots span 21.5% of the steps",
            "first": 200,
            "last": 400,
            "times": 2,
        },
        {"suite": "early", "why": "too few", "first": 200, "last": 400, "times": 2},
    ]


def test_versions_and_digests_stand_at_the_foot(page):
    told = Page(page).words
    assert f"suite early {'5' * 64}" in told and f"tokenizer {'7' * 64}" in told
    assert "python 3.11.9, stagewise 0.1.0, torch 2.13.0" in told
    assert f"{3000:064x}"[:12] in told  # of the weights of the last evaluation


def test_it_can_be_used_without_sight_or_mouse(page):
    told = Page(page)
    svgs = [attrs for attrs in told.all("svg") if attrs.get("aria-hidden") != "true"]
    ids = {attrs["id"] for _, attrs in told.tags if "id" in attrs}
    assert len(ids) == sum("id" in attrs for _, attrs in told.tags)  # each once
    for one in svgs:
        assert one["role"] == "img" and ("aria-label" in one or "aria-labelledby" in one)
        assert set((one.get("aria-labelledby") or "").split()) <= ids
    assert all("scope" in attrs for attrs in told.all("th"))
    areas = [attrs for attrs in told.all("div") if attrs.get("class") == "scroll"]
    assert areas and all(one["tabindex"] == "0" and one["aria-label"] for one in areas)
    assert {attrs["href"] for attrs in told.all("a")} <= {f"#{one}" for one in ids}
    assert told.all("html") == [{"lang": "en"}] and len(told.all("h1")) == 1


def test_pictures_are_whole_and_within_their_frame(page):
    """Oracle: an XML parser; every coordinate lies in the box of the picture."""
    pictures = [x for x in re.findall(r"<svg.*?</svg>", page, re.S) if f"0 0 {WIDTH} {HEIGHT}" in x]
    assert len(pictures) == 3
    for one in pictures:
        root = ElementTree.fromstring(one)
        for path in root.iter("path"):
            for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path.get("d") or ""):
                assert 0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT
        assert len(list(root.iter("circle"))) >= len(STEPS)
    told = [" ".join("".join(ElementTree.fromstring(one).itertext()).split()) for one in pictures]
    assert sum("Alarm since step 2,000, noticed at step 2,400." in one for one in told) == 1
    assert all("mixture change, step 1,980" in one and "loss spike, step 1,350" in one for one in told)


def test_the_template_is_installed_with_the_package():
    """What pyproject.toml does not list is there in a checkout and lost in a wheel."""
    root = Path(__file__).resolve().parents[2]
    listed = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = {
        one for pattern in listed["package-data"]["evalsuite"] for one in (root / "evalsuite").glob(pattern)
    }
    assert found == set((root / "evalsuite" / "templates").iterdir())


def test_it_is_light_and_dark(page):
    assert "@media (prefers-color-scheme: dark)" in page
    names = re.findall(r"var\((--[\w-]+)\)", page)
    light, dark = page.split("@media (prefers-color-scheme: dark)")[:2]
    for name in set(names):
        assert f"{name}:" in light and f"{name}:" in dark.split("* {")[0], name


def test_the_same_run_gives_the_same_bytes(made, tmp_path):
    copy = shutil.copytree(made, tmp_path / "elsewhere" / made.name)
    Report.of(made).write(tmp_path / "a.html")
    Report.of(copy).write(tmp_path / "b.html")
    told = (tmp_path / "a.html").read_bytes()
    assert told == (tmp_path / "b.html").read_bytes() and str(tmp_path).encode() not in told


def test_a_failed_write_leaves_the_old_page(made, tmp_path, monkeypatch):
    (tmp_path / "a.html").write_text("old")
    monkeypatch.setattr(Report, "html", lambda self: "\udcff")  # which no file can hold
    with pytest.raises(UnicodeEncodeError):
        Report.of(made).write(tmp_path / "a.html")
    assert [one.name for one in tmp_path.iterdir()] == ["a.html"]
    assert (tmp_path / "a.html").read_text() == "old"


# --- runs that are young, foreign, broken, calm ---------------------------------------------------------


def test_a_run_without_evaluations_yet(tmp_path):
    told = Page(Report.of(run_folder(tmp_path / "a", [], 100, now=3)).html()).words
    assert "Nothing has been evaluated yet." in told and "No scores yet." in told
    assert "step 3 of 100, 3%" in told


def test_one_evaluation(tmp_path):
    told = Page(Report.of(run_folder(tmp_path / "a", [100], 100, events=())).html()).words
    assert "step 100 of 100, ended" in told and "No capability falls behind" in told
    assert "Everything that was planned has been measured." in told


def test_the_folder_of_another_trainers_hook(tmp_path):
    hook = hook_folder(tmp_path / "mine" / "watching", [100, 200], events=())
    found = Report.of(hook)
    told = Page(found.html()).words
    assert found.overview.run.steps is None and told.startswith("watching · step 200")
    assert "training loss" not in told and "compute 4.8e12 FLOPs" in told


def test_the_hook_of_a_run_of_ours_is_the_run(made):
    assert Report.of(made / "evals").html() == Report.of(made).html()


def test_results_that_are_gone_are_said_and_the_rest_stays(made, tmp_path):
    run = shutil.copytree(made, tmp_path / "a")
    shutil.rmtree(run / "evals" / "step-000001000")
    (run / "evals" / "step-000001200" / "early" / "manifest.json").write_text("{")
    with RunLog(run / "evals" / JOURNAL) as log:
        pass
    half_line(run / "evals" / JOURNAL)
    half_line(run / "log.jsonl")
    found = Report.of(run)
    assert [one.split(":")[0] for one in found.overview.problems] == [
        "step 1000, early", "step 1200, early",
    ]  # fmt: skip
    assert len(found.cost) == len(STEPS) - 2 and not {1000, 1200} & set(found.series["step"])
    assert "step 1000, early: results cannot be read" in Page(found.html()).words
    assert log.path.read_bytes()  # untouched


def test_alarms_that_cannot_be_computed_are_said(made, monkeypatch):
    def broken(*_, **__):
        raise StagewiseError("no two evaluations share a task")

    monkeypatch.setattr("evalsuite.alarms.watch", broken)
    told = Page(Report.of(made).html()).words
    assert "Alarms could not be computed" in told and "no two evaluations share a task" in told
    assert "skill_add" in told


def test_no_run_is_one_clear_error(tmp_path):
    with pytest.raises(StagewiseError, match=r"no run here .* give the folder of a run"):
        Report.of(tmp_path)
    (tmp_path / "config.toml").write_text("steps = 3")
    with pytest.raises(StagewiseError, match="no journal of evaluations yet"):
        Report.of(tmp_path)


# --- tables ---------------------------------------------------------------------------------------------


def test_the_table_of_tasks(made):
    """Oracle: the series of the evaluations."""
    found = Report.of(made)
    series = Evaluations.open(made).series()
    for row in found.tasks.to_dict("records"):
        one = series[series["task"] == row["task"]]
        assert row["now"] == one["score"].iloc[-1] and row["first"] == one["score"].iloc[0]
        assert row["change"] == row["now"] - row["first"] and row["better"]  # bits that fell
        assert row["scores"] == one["score"].tolist() and row["n_items"] == 400
    assert list(found.to_frame()["task"]) == [one.task for one in TASKS]
    assert "skill_add" in found._repr_html_()


@pytest.mark.parametrize(
    ("metric", "end", "better"),
    [("bpb", 1.0, True), ("bpb", 1.6, False), ("acc", 1.6, True), ("bpb", 1.31, None)],
)
def test_which_way_is_better(tmp_path, metric, end, better):
    task = TASKS[0].__class__("t", "c", lambda step: 1.3 if step == 100 else end, metric)
    hook = hook_folder(tmp_path / "a", [100, 200], tasks=[task], noise=0.0 if better is not None else 0.01)
    found = Report.of(hook).tasks["better"].iloc[0]
    assert found is pd.NA if better is None else found == better


def test_the_data_is_plain_and_whole(made):
    import json

    from scaling.console import plain

    told = Report.of(made).to_dict()
    again = json.loads(json.dumps(plain(told), allow_nan=False))
    assert set(again) == {
        "run", "alarms", "capabilities", "tasks", "missing", "doubts", "limits", "problems", "cost", "events",
        "provenance",
    }  # fmt: skip
    assert again["alarms"][0]["since"] == 2000 and again["cost"]["share"] == pytest.approx(15 * 3.2 / 6000)
    assert [one["missing"] for one in again["cost"]["evaluations"]][7:10] == [1, 1, 0]


def test_an_overview_reads_again_only_what_is_new(made, tmp_path):
    run = shutil.copytree(made, tmp_path / "a")
    first = Overview.open(run)
    assert Overview.open(run, before=first).evaluations is first.evaluations
    with RunLog(run / "evals" / JOURNAL) as log:
        log.append({"step": 3050, "kind": "phase", "phase": 2})
    second = Overview.open(run, before=first)
    assert second.evaluations.all[0] is first.evaluations.all[0]
    assert second.evaluations.journal[-1]["phase"] == 2


# --- where a run is -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "steps"),
    [("steps = 9", 9), ("tokens = 100\n[batch]\nrows = 2\n[model]\ncontext = 16", 4), ("", None),
     ("steps = 'x'", None), ("tokens = 9", None), ("no toml", None)],
)  # fmt: skip
def test_the_length_of_a_run(tmp_path, config, steps):
    (tmp_path / "config.toml").write_text(config)
    assert RunState.read(tmp_path).steps == steps


@settings(max_examples=30)
@given(cut=st.integers(1, 400))
def test_a_log_that_is_being_written_is_read(cut, tmp_path_factory):
    folder = run_folder(tmp_path_factory.mktemp("runs") / "a", [], 50, now=50)
    data = (folder / "log.jsonl").read_bytes()
    (folder / "log.jsonl").write_bytes(data[:-cut])
    whole = [one for one in data[:-cut].split(b"\n")[:-1] if b'"train"' in one]
    assert RunState.read(folder).step == 50 - 41 + len(whole)


def test_a_loss_that_is_no_number(tmp_path):
    with RunLog(tmp_path / "log.jsonl") as log:
        log.append({"step": 1, "kind": "train", "loss": float("nan")})
    found = RunState.read(tmp_path)
    assert found.loss is not None and np.isnan(found.loss) and found.told == "step 1"


# --- pictures and numbers -------------------------------------------------------------------------------


@settings(max_examples=50)
@given(
    scores=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30),
    wide=st.sampled_from([0.0, 0.1, 1e9, np.nan]),
)
def test_any_course_can_be_drawn(scores, wide):
    steps = np.arange(1, len(scores) + 1) * 10
    values = np.array(scores)
    history = pd.DataFrame(
        {"step": steps, "score": values, "expected": values, "low": values - wide, "high": values + wide}
    )
    events = pd.DataFrame({"step": [5, 15], "kind": ["phase", "spike"]})
    found = chart("c", "s", history, int(steps[-1]), events, (10, 10))
    assert len(found.dots) == len(scores) and found.noticed is not None
    assert all(0 <= dot.x <= WIDTH and 0 <= dot.y <= HEIGHT for dot in found.dots)
    assert all(0 <= tick.at <= HEIGHT for tick in found.y) and bool(found.band) == (
        wide == wide and len(scores) > 1
    )
    path, x, y = spark(steps.tolist(), scores)
    assert path.startswith("M") and 0 <= x <= 108 and 0 <= y <= 26


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-6, 1e6))
def test_ticks_are_round_and_inside(low, width):
    found, digits = ticks(low, low + width, 4)
    assert 1 <= len(found) <= 6
    assert all(low - 1e-6 * width <= one <= low + width * (1 + 1e-6) for one in found)
    assert len({f"{one:.{digits}f}" for one in found}) == len(found)


@pytest.mark.parametrize(
    ("write", "value", "told"),
    [
        (number, 0.5, "0.500"), (number, -1.23456, "−1.235"), (number, float("nan"), "–"),
        (number, 0.0, "0.000"), (number, -5e-16, "0.000"), (number, 0.00123, "0.0012"),
        (amount, 0.0, "0"), (amount, 999.0, "999"),
        (amount, 1e3, "1k"), (amount, 2.5e12, "2.5T"), (amount, 1e15, "1e15"), (flops, 2.4e10, "2.4e10"),
        (count, 1e6, "1,000,000"), (count, None, "–"), (clock, 0.04, "0.0 s"), (clock, 59.9, "59.9 s"),
        (clock, 60, "1 min 0 s"), (clock, 3599, "59 min 59 s"), (clock, 3600, "1 h 00 min"),
        (evidence, 0.0099, "< 0.01"), (evidence, float("nan"), "–"), (evidence, 1.0, "1"),
        (span, {"first": 1, "last": 2000, "times": 3}, "steps 1–2,000 (3 times)"),
        (polyline, [(0, float("inf")), (1, 2)], "M1 2"),
    ],
)  # fmt: skip
def test_numbers_as_they_are_written(write, value, told):
    assert write(value) == told
