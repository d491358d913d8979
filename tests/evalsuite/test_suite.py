"""The suite file: what is written is read back, and what was broken is named."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalsuite.evidence import Chances, Evidence
from evalsuite.suite import (
    Cluster,
    Dropped,
    HeldOut,
    Provenance,
    RunnerUp,
    ScoreDigest,
    StageRange,
    Suite,
    Task,
    edited,
    split,
)  # fmt: skip
from scaling.errors import StagewiseError

names = st.text(min_size=1, max_size=12)
words = names.filter(lambda text: text.strip())
figures = st.none() | st.floats(-1e30, 1e30)
shares = st.floats(0, 1)
evidence = st.builds(
    Evidence,
    klass=st.sampled_from(["early-signal", "late-signal", "saturated", "noisy", "undetermined"]),
    p=st.none() | st.builds(Chances, early=shares, late=shares, saturated=shares, noisy=shares),
    opens=figures, closes=figures, before_data=st.booleans(), dp=st.none() | shares, covers=shares,
    measured=shares, gain=figures, noise=figures, runs=st.integers(1, 500),
)  # fmt: skip
digests = st.builds(
    ScoreDigest, source=names, rows=st.integers(1), models=st.integers(1),
    digest=st.text("0123456789abcdef", min_size=64, max_size=64),
)  # fmt: skip


@st.composite
def suites(draw) -> Suite:
    tasks = draw(st.lists(names, min_size=2, max_size=6, unique=True))
    common = {"metric": "acc", "shots": draw(st.none() | st.integers(0, 25)), "reason": draw(words)}
    second = st.builds(RunnerUp, metric=names, shots=st.none() | st.integers(0, 25), dp=st.none() | shares)
    items = {"items": draw(st.none() | st.integers(1, 10**6)), "cluster": 1}
    items["runner_up"] = draw(st.none() | second)
    first, *others = tasks
    weight = 1 / len(others)
    aside = HeldOut(task=first, evidence=draw(evidence), **common, **items)
    # The names drawn are at most 12 characters long.
    lost = Dropped(task="thirteen long", evidence=None, **common)
    used = {"threshold": draw(shares), "seed": 0, "held_out": True, "clusters": None, "points": draw(names)}
    return Suite(
        format=1,
        stage=StageRange(name=draw(st.none() | names), low=1e19, high=1e21),
        early_by=draw(st.floats(1, 1e30)),
        criterion=draw(words),
        clusters=(Cluster(cluster=1, format=draw(names), weight=1.0),),
        tasks=tuple(
            Task(task=task, weight=weight, evidence=draw(evidence), **common, **items) for task in others
        ),
        held_out=draw(st.sampled_from([(), (aside,)])),
        dropped=draw(st.sampled_from([(), (lost,)])),
        provenance=Provenance(
            scores=draw(digests), sources=(draw(digests),), overrides=(), versions={"python": draw(names)},
            settings=used,
        ),
    )  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(suites())
def test_what_is_written_is_read_back(suite: Suite) -> None:
    text = suite.text("evalsuite build --scores x")
    assert Suite.parse(text) == suite
    assert Suite.parse(text).text("evalsuite build --scores x") == text
    assert edited(text) is None
    # Oracle: plain PyYAML reads the same data.
    assert yaml.safe_load(text)["tasks"][0]["task"] == suite.tasks[0].task


def example() -> Suite:
    figures = {"dp": 0.9, "covers": 1.0, "measured": 1.0, "gain": 0.01, "noise": 0.002, "runs": 24}
    chances = Chances(early=0.9, late=0.0, saturated=0.0, noisy=0.1)
    told = Evidence(
        **{"class": "early-signal"}, p=chances, opens=3e19, closes=None, before_data=False, **figures
    )
    common = {"metric": "acc", "shots": 0, "cluster": 1, "items": 100, "reason": "DP 0.90"}
    common |= {"evidence": told, "runner_up": RunnerUp(metric="bpb", shots=0, dp=0.85)}
    digest = ScoreDigest(source="made", rows=3, models=2, digest="0" * 64)
    return Suite(
        format=1, stage=StageRange(low=1e19, high=1e21), early_by=1e21, criterion="1 cluster",
        clusters=(Cluster(cluster=1, format="choice_text", weight=1.0),),
        tasks=(Task(task="alpha", weight=0.5, **common), Task(task="beta", weight=0.5, **common)),
        held_out=(HeldOut(task="gamma", **common),), dropped=(),
        provenance=Provenance(scores=digest, sources=(digest,), settings={}, overrides=(), versions={}),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("weight: 0.5\n", "weight: 0.4\n", "the weights sum to 0.9; valid is 1"),
        ("weight: 0.5\n", "weight: half\n", r"line \d+, tasks\[0\]\.weight: got \"half\""),
        ("weight: 0.5\n", "weight: .nan\n", r"tasks\[0\]\.weight: got NaN"),
        (
            "weight: 0.5\n",
            "wieght: 0.5\n",
            r"tasks\[0\]\.wieght: no such field; valid fields are task, metric",
        ),
        ("    shots: 0\n", "", r"tasks\[0\]\.shots: missing"),
        ("    shots: 0\n", "    shots: 0\n    shots: 5\n", r"tasks\[0\]\.shots: stands twice"),
        (
            "class: early-signal",
            "class: earlyish",
            r"line \d+, tasks\[0\]\.evidence\.class: got \"earlyish\"",
        ),
        ("task: beta", "task: alpha", "alpha named twice"),
        ("low: 1.0e+19", "low: 1.0e+22", "valid is low < high"),
        ("    cluster: 1\n", "    cluster: 2\n", "cluster 2: not among clusters"),
        ("tasks:\n", "tasks: [\n", "line .*not valid YAML"),
    ],
)
def test_a_file_broken_by_hand_is_one_error_with_line_and_field(old: str, new: str, problem: str) -> None:
    text = example().text("x")
    broken = text.replace(old, new, 1)
    assert broken != text
    with pytest.raises(StagewiseError, match=problem) as caught:
        Suite.parse(broken, "mid.yaml")
    assert str(caught.value).startswith("mid.yaml, line")
    assert "build it again" in str(caught.value)


def test_the_line_named_is_the_line_broken() -> None:
    lines = example().text("x").replace("task: beta", "task: 7", 1).splitlines()
    number = next(i for i, line in enumerate(lines, 1) if "task: 7" in line)
    with pytest.raises(StagewiseError, match=rf"line {number}, tasks\[1\]\.task: got 7"):
        Suite.parse("\n".join(lines))


def test_an_edit_that_breaks_nothing_is_noticed() -> None:
    text = example().text("x")
    assert edited(text) is None
    assert "edited" in str(edited(text.replace("DP 0.90", "DP 0.99")))
    assert "no content line" in str(edited(split(text)[1]))


def test_write_replaces_whole_files_and_header_stays_comment(tmp_path: Path) -> None:
    path = tmp_path / "new" / "mid.yaml"
    example().write(path, "evalsuite build\n--scores 'a\nb'")
    assert Suite.read(path) == example()
    assert [item.name for item in path.parent.iterdir()] == ["mid.yaml"]
    assert len(example().to_frame()) == 3
