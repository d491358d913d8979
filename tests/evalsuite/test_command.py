"""The call in a suite's first lines. Oracle: the shell's own reading of it, and calls written out by hand."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.command import command_of, relative


@pytest.mark.parametrize(
    ("scores", "options", "wanted"),
    [
        (["a.parquet"], {"stage": "early"}, "--scores a.parquet --stage early"),
        (["a.csv", "b/c"], {"stage": "1e19..1e21"}, "--scores a.csv --scores b/c --stage 1e19..1e21"),
        (["a"], {"early_by": 1e20, "seed": 3}, "--scores a --early-by 1e+20 --seed 3"),
        (["a"], {"budget": "20%", "whole": True}, "--scores a --budget 20% --whole"),
        (["a"], {"whole": False, "seed": None, "source": None}, "--scores a"),
        (["a"], {"source": ["x", "y"]}, "--scores a --source x --source y"),
        (["a"], {"settings": Path("s.yaml"), "drop_bad": True}, "--scores a --settings s.yaml --drop-bad"),
        (["a"], {"item_scores": [Path("i/a.npz"), Path("b.npz")]},
         "--scores a --item-scores i/a.npz --item-scores b.npz"),
        (["a"], {"held_out": False, "stage": "mid"}, "--scores a --stage mid --no-held-out"),
        (["a"], {"leave_families_out": True, "held_out": True}, "--scores a --leave-families-out"),
        (["a"], {"source": []}, "--scores a"),
    ],
)  # fmt: skip
def test_the_call_by_hand(scores: list[str], options: dict, wanted: str) -> None:
    assert command_of(scores, **options) == f"evalsuite build {wanted}"


def test_zero_is_a_value_and_false_is_none() -> None:
    assert command_of(["a"], seed=0, early_by=0.0).endswith("--seed 0 --early-by 0.0")


words = st.text(min_size=1, max_size=20).filter(lambda text: "\0" not in text and not text.startswith("/"))


@given(st.lists(words, min_size=1, max_size=3), words, st.lists(words, max_size=3))
def test_the_shell_reads_what_was_meant(scores: list[str], stage: str, sources: list[str]) -> None:
    """Oracle: shlex.split; blanks, quotes, dollars and line breaks stay in their word."""
    found = shlex.split(command_of(scores, stage=stage, source=sources))
    wanted = [word for path in scores for word in ("--scores", path)] + ["--stage", stage]
    wanted += [word for name in sources for word in ("--source", name)]
    assert found == ["evalsuite", "build", *wanted]


def test_a_path_with_a_blank_is_quoted() -> None:
    assert command_of(["my scores.csv"], stage="a b") == (
        "evalsuite build --scores 'my scores.csv' --stage 'a b'"
    )


def test_no_place_on_a_machine_is_named(tmp_path: Path, monkeypatch) -> None:
    """By hand: absolute paths are relative to the working folder."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    told = command_of(
        [str(work / "a.parquet"), "b.parquet"], settings=tmp_path / "s.yaml", items=work / "tasks",
        item_scores=[work / "i.npz"],
    )  # fmt: skip
    assert told == (
        "evalsuite build --scores a.parquet --scores b.parquet --settings ../s.yaml --items tasks "
        "--item-scores i.npz"
    )
    assert str(tmp_path) not in told
    assert relative("x/y") == "x/y" and relative(work / "x" / "y") == str(Path("x") / "y")
