"""Sources of installed distributions. Oracle: the files that pip recorded, read as they are."""

from __future__ import annotations

from importlib.metadata import distribution, version

import pytest

from data.errors import DataError
from data.packages import packages
from data.sources import Source, read


def test_what_is_read():
    found = list(packages(["typer"]))
    names = [one.origin.split("/", 1)[1] for one in found]
    assert names == sorted(names, key=lambda name: tuple(name.split("/")))
    recorded = {str(one): one for one in distribution("typer").files or () if str(one).endswith(".py")}
    assert names and set(names) <= set(recorded)
    assert found[0].origin.startswith(f"installed:typer-{version('typer')}/") and found[0].domain == "code"
    some = next(one for one in found if one.origin.endswith("/main.py"))
    assert some.text == recorded["typer/main.py"].read_text(encoding="utf-8")
    assert not any("/tests/" in name for name in names)


def test_as_a_source():
    found = list(read(Source("installed: typer , rich", domain="python", most=20_000)))
    assert {one.domain for one in found} == {"python"}
    assert sum(one.size for one in found[:-1]) < 20_000 <= sum(one.size for one in found)


@pytest.mark.parametrize("name", ["no-such-distribution", ""])
def test_what_is_not_there(name):
    with pytest.raises(DataError, match="is not installed here"):
        list(packages([name]))


def test_one_without_sources(monkeypatch):
    monkeypatch.setattr("data.packages.is_text_of_interest", lambda *_: False)
    with pytest.raises(DataError, match="holds no Python source"):
        list(packages(["typer"]))
