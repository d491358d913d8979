"""Which snapshots an evaluation averages: held against windows drawn up one by one."""

from __future__ import annotations

from bisect import bisect_left
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.averaging import Averaging
from evalsuite.place import Place
from evalsuite.window import Window
from scaling.errors import UsageError

STEPS = 150
FAR = 6 * STEPS  # no evaluation beyond uses a snapshot before STEPS
spacings = st.one_of(st.just("auto"), st.integers(1, 40))
in_steps = st.builds(
    lambda n, spacing, span, every, least: Window(
        Averaging(n=n, spacing=spacing, span=span, least=least), every
    ),
    st.integers(1, 7), spacings, st.sampled_from([0.01, 0.05, 0.12, 0.2, 0.29, 0.5, 0.8]), st.integers(1, 25),
    st.sampled_from([1, 2, 5, 20, 33]),
)  # fmt: skip
clocked = st.builds(
    lambda n, size, unit, every: Window(Averaging(n=n, spacing=f"{size} {unit}"), every),
    st.integers(1, 5), st.sampled_from([0.5, 1, 3, 10.5, 40]), st.sampled_from(["tokens", "minutes"]),
    st.integers(1, 30),
)  # fmt: skip


def windows(window: Window, far: int = FAR) -> dict[int, set[int]]:
    """The window of each evaluation, by its definition and in exact numbers; the oracle."""
    average, n, every = window.averaging, window.averaging.n, window.every
    span = Fraction(str(average.span))
    grids: dict[Fraction, list[int]] = {}
    found = {}
    for e in range(every, far, every):
        s = Fraction(every if average.spacing == "auto" else average.spacing)
        if average.spacing == "auto" and n > 1:
            while (n - 1) * s <= span * e:
                s *= 2
            while s / 2 >= 1 and (n - 1) * s > span * e:
                s /= 2
            while s < average.least and (n - 1) * 2 * s <= Fraction(3, 10) * e:
                s *= 2
        if s not in grids:
            grids[s] = [int(i * s) for i in range(1, int(far / s) + 2)]
        before = bisect_left(grids[s], e)
        found[e] = {e, *grids[s][max(0, before - n + 1) : before]}
    return found


def clock(window: Window, steps: int, seed: int = 0) -> list[Place]:
    """All moments of a run, some steps longer than others."""
    value, found = 0.0, []
    for step in range(1, steps + 1):
        value += 0.3 + (step * (7 + seed) % 11) ** 2 / 20
        found.append(Place(step, tokens=value, seconds=60 * value))
    return found


def run(window: Window, places: list[Place], taken: list[Place], oldest=lambda step: None):
    """What a run takes, and the members of each evaluation; `oldest(step)` is where it may be resumed."""
    taken, members, most, every_one = list(taken), {}, 0, []
    for place in places:
        if window.due(place, taken):
            taken.append(place)
            every_one.append(place.step)
        if place.step % window.every == 0:
            members[place.step] = window.members(place.step, taken)
        most = max(most, len(taken))
        kept = window.needed(place.step, taken, oldest(place.step))
        taken = [one for one in taken if one.step in kept]
    return members, every_one, most, taken


@settings(max_examples=50)
@given(in_steps)
def test_a_step_is_taken_if_some_evaluation_uses_it(window):
    """Oracle: all windows, far beyond the steps that are looked at."""
    told = windows(window)
    used = set().union(*told.values())
    members, taken, _, _ = run(window, [Place(step) for step in range(1, STEPS + 1)], [])
    assert taken == [step for step in range(1, STEPS + 1) if step in used]
    assert members == {e: tuple(sorted(told[e])) for e in range(window.every, STEPS + 1, window.every)}


@settings(max_examples=50)
@given(in_steps, st.integers(0, STEPS), st.integers(0, 100))
def test_needed_are_those_that_later_evaluations_use(window, step, back):
    """Oracle: all windows of later evaluations."""
    told = windows(window)
    taken = [Place(one) for one in range(1, STEPS + 1) if window.due(Place(one), [])]
    later = set().union(*(one for e, one in told.items() if e > step))
    assert window.needed(step, taken) == {one.step for one in taken} & later
    oldest = max(0, step - back)
    too = {one for e, found in told.items() if e > oldest for one in found if one <= oldest}
    assert window.needed(step, taken, oldest) == {one.step for one in taken} & (later | too)


@settings(max_examples=50)
@given(st.one_of(in_steps, clocked), st.integers(1, STEPS), st.integers(1, 90))
def test_a_run_resumed_anywhere_averages_the_same(window, killed, checkpoint):
    """Oracle: the run that is not killed."""

    def oldest(step: int) -> int:
        return step // checkpoint * checkpoint

    places = clock(window, STEPS)
    whole, *_ = run(window, places, [], oldest)
    first, _, _, left = run(window, places[:killed], [], oldest)
    back = oldest(killed)
    left = [one for one in left if one.step <= back]
    second, *_ = run(window, places[back:], left, oldest)
    assert first | second == whole


@settings(max_examples=50)
@given(in_steps)
def test_few_are_kept(window):
    """Where checkpoints come as often as evaluations."""
    _, _, most, _ = run(window, [Place(step) for step in range(1, STEPS + 1)], [])
    assert most <= 2 * window.averaging.n
    every = window.every
    _, _, most, _ = run(
        window, [Place(step) for step in range(1, STEPS + 1)], [], lambda step: step // every * every
    )
    assert most <= 3 * window.averaging.n


@pytest.mark.parametrize("every", [1, 7, 100, 250])
def test_a_long_run_keeps_few(every):
    window = Window(Averaging(n=4), every)
    taken: list[Place] = []
    for step in range(every, 1000 * every, every):  # between evaluations nothing is taken so late
        taken.append(Place(step))
        kept = window.needed(step, taken)
        taken = [one for one in taken if one.step in kept]
        assert len(taken) <= 8
    assert not any(window.due(Place(step), []) for step in range(900 * every + 1, 901 * every))


@given(st.integers(2, 7), st.sampled_from([0.05, 0.12, 0.3]), st.integers(1, 60), st.integers(1, 40))
def test_auto_spans_its_share(n, span, every, count):
    """Oracle: the definition. Past the smallest spacing, windows span more than half of the share."""
    window, e = Window(Averaging(n=n, span=span, least=1), every), every * count
    taken = [Place(step) for step in range(1, e + 1) if window.due(Place(step), [])]
    members = window.members(e, taken)
    width = members[-1] - members[0]
    if span * e >= 2 * n:
        assert len(members) == n and members[-1] == e
        assert width <= span * e + 1
        spacing = (n - 1) * 2 * every if n == 2 else 0  # the newest of a wide grid may be near
        assert n == 2 or width + 1 + spacing >= span * e / 2 * (n - 2) / (n - 1)


@settings(max_examples=50)
@given(clocked)
def test_tokens_and_minutes_take_the_first_of_each_interval(window):
    """Oracle: intervals counted one by one, and windows without deletion."""
    places, average = clock(window, STEPS), window.averaging
    size = average.apart.size
    last, firsts, evaluations = 0, [], range(window.every, STEPS + 1, window.every)
    for place in places:
        if (index := int(place.tokens // size)) > last:
            firsts.append(place.step)
            last = index
    members, taken, *_ = run(window, places, [])
    assert set(taken) == {*(firsts if average.n > 1 else ()), *evaluations}
    for e in evaluations:
        before = [one for one in firsts if one < e]
        assert members[e] == (*(before[-(average.n - 1) :] if average.n > 1 else ()), e)


def test_a_clock_that_is_not_told():
    for spacing, what in (("5 tokens", "tokens"), ("5 minutes", "seconds")):
        window = Window(Averaging(spacing=spacing), 10)
        with pytest.raises(UsageError, match=rf"step 1,003 does not tell its {what}"):
            window.due(Place(1003), [])


@pytest.mark.parametrize("every", [0, -1, 2.0, True])
def test_every_is_a_whole_number(every):
    with pytest.raises(UsageError, match="whole number of steps from 1"):
        Window(Averaging(), every)


def test_the_grid_of_the_default():
    """Worked out by hand: 12% of 1,000 is 120, a third of it 40, and 100 / 4 = 25 the half power below."""
    window = Window(Averaging(), 100)
    taken = [Place(step) for step in range(1, 1001) if window.due(Place(step), [])]
    assert window.members(1000, taken) == (925, 950, 975, 1000)
    assert window.members(2500, [Place(step) for step in range(0, 2501, 100)]) == (2200, 2300, 2400, 2500)


def test_the_start_of_a_run():
    window = Window(Averaging(), 10)
    assert window.due(Place(0), [])
    assert window.members(0, [Place(0)]) == (0,)
    assert 0 not in window.members(10, [Place(step) for step in range(11)])
    assert window.needed(0, [Place(0)]) == frozenset()


# --- doubts -------------------------------------------------------------------------------------------


def doubts(step: int, *places: Place, window: Window | None = None) -> str:
    window = window or Window(Averaging(spacing=50), 100)
    return " | ".join(window.doubts(step, places))


def at(*steps: int, lr: float | None = None) -> list[Place]:
    return [Place(step, lr=lr) for step in steps]


def test_nothing_to_doubt():
    assert doubts(1000, *at(850, 900, 950, 1000, lr=1e-3)) == ""
    assert doubts(1000, *at(1000), window=Window(Averaging(n=1), 100)) == ""
    assert doubts(1000, Place(850, lr=1.0), *at(900, 950), Place(1000, lr=1.005)) == ""
    assert doubts(1000, Place(850, lr=1.0), *at(900, 950), Place(1000, lr=None)) == ""
    assert doubts(750, *at(600, 650, 700, 750, lr=0.0)) == ""  # a share of 20% is not over it


def test_too_few():
    assert doubts(100, *at(50, 100)).startswith("2 of 4 snapshots: the run is too young for more")
    assert doubts(0, Place(0)) == "1 of 4 snapshots: the run is too young for more"
    told = doubts(1000, *at(850, 1000))
    assert told.startswith("2 of 4 snapshots: of step 900, 950 there is none that is whole")
    assert doubts(1000).startswith("0 of 4 snapshots: of step 850, 900, 950, 1,000")
    tokens = Window(Averaging(spacing="5 tokens"), 100)
    assert doubts(1000, *at(900, 1000), window=tokens).startswith("2 of 4 snapshots: the run is too young")


def test_too_wide():
    assert "span 33% of the steps so far, more than 30%" in doubts(450, *at(300, 350, 400, 450))


def test_a_rate_that_moves():
    falls = doubts(1000, Place(850, lr=1.0), *at(900, 950), Place(1000, lr=0.98))
    assert falls.startswith("the learning rate went from 1 to 0.98") and "already decaying" in falls
    rises = doubts(1000, Place(850, lr=1.0), *at(900, 950), Place(1000, lr=1.02))
    assert "still warming up" in rises and "decaying" not in rises
