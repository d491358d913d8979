"""What the commands of `train` are told, and how it is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.errors import UsageError
from tests.train.commands import toml
from train import options


@pytest.mark.parametrize(
    ("told", "value"),
    [("optim.lr=1e-3", 1e-3), ("a=3", 3), ("a=true", True), ('a="3"', "3"), ("a=bytes", "bytes"),
     ("a=0.3 until 40%, then 0", "0.3 until 40%, then 0"), ('a=["x", "y"]', ["x", "y"]), ("a=", ""),
     ("a=b=c", "b=c"), ('a=[{path="t"}]', [{"path": "t"}])],
)  # fmt: skip
def test_settings_are_values_of_toml_or_else_text(told: str, value: object):
    found = options.setting(told)[1]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("told", ["steps", "=3", "  =3", ""])
def test_settings_have_a_name_and_a_value(told: str):
    with pytest.raises(UsageError, match=r"valid is NAME=VALUE, such as optim\.lr=1e-3"):
        options.setting(told)


@given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.booleans()))
def test_numbers_come_back(value: int | float | bool):
    """Oracle: what Python writes of them; TOML writes true and false small."""
    found = options.setting(f"a={str(value).lower() if isinstance(value, bool) else repr(value)}")[1]
    assert found == value and type(found) is type(value)


def test_sources_may_name_their_domain():
    told = [options.source_of(one) for one in ("code=src/", "src/", "runs/a=b.txt", "hf:a", "embedded:maths")]
    assert told[0] == {"domain": "code", "path": "src/"}
    assert told[1:] == [{"path": one} for one in ("src/", "runs/a=b.txt", "hf:a", "embedded:maths")]


def test_the_file_gives_way_to_set_and_that_to_flags(tmp_path: Path):
    file = toml(tmp_path / "a.toml", {"steps": 3, "seed": 3, "optim.lr": 0.3, "batch.rows": 3})
    found = options.read(
        file, ["seed=2", "optim.lr=0.2"], {"seed": 1, "steps": None}, {"batch.rows": 9, "model.context": 9}
    )
    assert (found.steps, found.seed, found.optim.lr) == (3, 1, 0.2)
    assert (found.batch.rows, found.model.context) == (3, 9)


@pytest.mark.parametrize("flag", ["steps", "tokens"])
def test_a_length_stands_for_that_of_the_file(tmp_path: Path, flag: str):
    for name in ("steps", "tokens"):
        found = options.read(toml(tmp_path / "a.toml", {name: 7}), [], {flag: 5})
        assert {"steps": found.steps, "tokens": found.tokens} == {"steps": None, "tokens": None, flag: 5}
    with pytest.raises(UsageError, match="one of them"):
        options.read(None, [], {"steps": 5, "tokens": 5})


def test_of_several_processes_one_speaks(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    options.say("something")
    with options.work("training") as progress:
        assert progress is None
    monkeypatch.setenv("RANK", "0")
    options.say("something else")
    assert capsys.readouterr() == ("", "something else\n")
