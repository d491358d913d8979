"""The page in a real browser: it sorts, filters, shows curves by keyboard, in the dark and on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalsuite.report import Report
from evalsuite.report_page import page
from evalsuite.report_scores import ScoreReport
from tests.evalsuite.chromium import Chromium, find_chromium
from tests.evalsuite.watched import judging, run_folder
from tests.evalsuite.world import STAGE, TASKS, table

EVIL = "</script><script>document.title='harmed'</script><img src=x onerror=\"document.title='harmed'\">"
PATH = find_chromium()
pytestmark = pytest.mark.skipif(PATH is None, reason="no Chromium here: install Debian's package chromium")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A page of scores and a run, in which one task is called something evil."""
    folder = tmp_path_factory.mktemp("page")
    run = run_folder(folder / "base-150m", range(200, 1201, 200), 1200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evalsuite.alarms.watch", judging("code", since=600, noticed=800))
        told = Report.of(run)
        tasks = TASKS | {EVIL: (20.0, 0.6)}
        scores = ScoreReport.of(
            table(tasks=tasks), stage=STAGE, metrics=["acc", "p_correct"], replicates=24, name="world"
        )
        (folder / "page.html").write_text(page(told, scores), encoding="utf-8")
    return folder / "page.html"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator[Chromium]:
    assert PATH is not None
    found = Chromium(PATH, tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture
def seen(chromium, written) -> Iterator[Chromium]:
    """The page, freshly opened; afterwards nothing may have gone wrong in it, and nothing been asked for."""
    chromium.open(written)
    yield chromium
    assert not chromium.problems
    assert chromium.requests == [written.as_uri()]
    assert "harmed" not in chromium.ask("document.title")


def column(chromium: Chromium, number: int) -> list[str]:
    """Texts of a column of the table, in the order of the rows that are shown."""
    return chromium.ask(
        "Array.from(document.querySelectorAll('#tasks-rows tbody tr:not([hidden])'))"
        f".map((row) => row.cells[{number}].firstChild.textContent.trim())"
    )


def test_the_picture_of_windows_comes_first(seen):
    first = "document.querySelector('main > section')"
    assert seen.ask(f"{first}.id") == "windows"
    assert seen.ask(f"{first}.getBoundingClientRect().top") < 250
    # A row for each task, and a bar that is drawn for each that has a window.
    assert seen.ask(f"{first}.querySelectorAll('.wrow button').length") == len(TASKS) + 1
    wide = seen.ask(
        f"Array.from({first}.querySelectorAll('.sure, .likely'), e => e.getBoundingClientRect().width)"
    )
    assert len(wide) >= 5 and max(wide) > 50


def test_it_sorts_by_click_and_by_keyboard(seen):
    names = column(seen, 0)
    head = "document.querySelector('[data-sort=task]')"
    seen.click("[data-sort=task]")
    assert column(seen, 0) == sorted(names)
    assert seen.ask(f"{head}.closest('th').ariaSort") == "ascending"
    seen.press("Enter")  # the button has the focus
    assert column(seen, 0) == sorted(names, reverse=True)
    assert seen.ask(f"{head}.closest('th').ariaSort") == "descending"
    seen.ask("document.querySelector('[data-sort=opens]').focus()")
    seen.press(" ")
    opens = [float(one.strip("≤≈ ")) for one in column(seen, 4) if one != "no window"]
    assert opens == sorted(opens) and len(opens) >= 5
    assert column(seen, 4)[len(opens) :] == ["no window"] * (len(names) - len(opens))  # the missing come last
    assert (
        seen.ask("document.querySelectorAll('th[aria-sort=ascending], th[aria-sort=descending]').length") == 1
    )


def test_it_filters_by_text_class_and_metric(seen):
    total = len(column(seen, 0))
    seen.ask("document.getElementById('f-text').focus()")
    seen.press("alph")
    assert set(column(seen, 0)) == {"alpha"}
    assert seen.ask("document.getElementById('f-count').textContent") == f"2 of {total} rows"
    choose = (
        "(name, value) => { const e = document.getElementById(name); e.value = value; "
        "e.dispatchEvent(new Event('input', {bubbles: true})); }"
    )
    seen.ask(f"({choose})('f-metric', 'acc')")
    assert len(column(seen, 0)) == 1
    seen.click("#filters button[type=reset]")
    seen.ask("new Promise((done) => setTimeout(done, 20))")
    assert len(column(seen, 0)) == total
    seen.ask(f"({choose})('f-class', 'noisy')")
    assert set(column(seen, 3)) == {"noisy"}


def test_a_curve_opens_and_closes_by_keyboard(seen):
    seen.ask("document.querySelector('#tasks-rows button.name').focus()")
    seen.press("Enter")
    assert seen.ask("document.getElementById('curve').open")
    first = seen.ask("document.getElementById('curve-name').textContent")
    assert first.startswith(column(seen, 0)[0])
    picture = "document.querySelector('#curve-picture svg')"
    assert seen.ask(f"{picture}.querySelectorAll('.mk').length") == 24  # 12 sizes, two repeats
    assert seen.ask(f"{picture}.querySelectorAll('.fit').length") == 2
    assert seen.ask(f"{picture}.querySelectorAll('.range').length") == 1
    assert "clusters" in seen.ask("document.getElementById('curve-evidence').textContent")
    inside = (
        f"(() => {{ const b = {picture}.getBoundingClientRect(); "
        f"return Array.from({picture}.querySelectorAll('path, text')).every((e) => {{ "
        "const a = e.getBoundingClientRect(); return a.left >= b.left - 2 && a.right <= b.right + 2 && "
        "a.top >= b.top - 2 && a.bottom <= b.bottom + 2; }); })()"
    )
    assert seen.ask(inside)
    seen.press("ArrowRight")
    assert seen.ask("document.getElementById('curve-name').textContent") != first
    seen.press("Escape")
    assert not seen.ask("document.getElementById('curve').open")
    # The focus is back where it was.
    assert seen.ask("document.activeElement === document.querySelector('#tasks-rows button.name')")


def test_a_click_on_a_row_or_a_bar_opens_its_curve(seen):
    for place in ("#tasks-rows tbody tr:nth-child(3) td:nth-child(6)", ".wrow svg[data-open]"):
        seen.click(place)
        assert seen.ask("document.getElementById('curve').open"), place
        seen.click("#curve-close")
        assert not seen.ask("document.getElementById('curve').open")


def test_what_a_task_is_called_does_no_harm(seen):
    assert EVIL in column(seen, 0)
    row = column(seen, 0).index(EVIL) + 1
    seen.click(f"#tasks-rows tbody tr:nth-child({row}) button")
    assert EVIL in seen.ask("document.getElementById('curve-name').textContent")
    assert seen.ask("document.querySelectorAll('img, script:not([type])').length") == 1  # our script


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(seen, width):
    seen.size(width)
    assert seen.ask("document.documentElement.scrollWidth") == width
    seen.click("#tasks-rows tbody button.name")
    assert seen.ask("document.documentElement.scrollWidth") == width
    wide = seen.ask(
        "(() => { const e = document.getElementById('curve'); return [e.scrollWidth, e.clientWidth]; })()"
    )
    assert wide[0] <= wide[1]
    assert seen.ask("document.getElementById('curve').getBoundingClientRect().right") <= width
    seen.press("Escape")


def test_it_is_dark_where_dark_is_asked_for(seen, chromium, written):
    """Oracle: the contrast of WCAG 2, 4.5 for text."""
    for dark in (False, True):
        chromium.open(written, dark=dark)
        back = colour(seen, "body", "backgroundColor")
        assert (luminance(back) < 0.1) == dark
        for place in (
            "body",
            "#windows p",
            ".wrow button",
            "#tasks-rows td",
            ".note",
            "#provenance dd",
            ".state",
        ):
            assert contrast(colour(seen, place, "color"), back) >= 4.5, (place, dark)
        for bar in (".c0 .sure", ".c1 .sure"):  # 3 is what is asked of pictures
            assert contrast(colour(seen, bar, "fill"), back) >= 3, (bar, dark)


def colour(chromium: Chromium, place: str, name: str) -> tuple[float, ...]:
    """Red, green, blue of a property, from 0 to 1."""
    told = chromium.ask(f"getComputedStyle(document.querySelector({place!r})).{name}")
    return tuple(float(one) / 255 for one in re.findall(r"[0-9.]+", told)[:3])


def luminance(rgb: tuple[float, ...]) -> float:
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
