"""The scores that come with the package, by name. Oracle: the rows that were put in."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scaling import embedded
from scaling.cli import app
from scaling.cli_files import load
from scaling.embedded import AVERAGED, EVEN, RAW, ladder
from scaling.errors import StagewiseError, UsageError
from scaling.scores import ScoreTable
from scaling.sources import fetch
from tests.scaling import synthetic


def made(source: str, task: str = "piqa") -> ScoreTable:
    frame = synthetic.table_of({task: synthetic.sigmoid(0.5, 0.9, 20.0, 2.0)}).frame
    frame.loc[frame["family"] != frame["family"].iloc[0], "family"] = "code"
    return ScoreTable.from_frame(
        frame.assign(source=source).replace({"family": {frame["family"].iloc[0]: EVEN}})
    )


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A ladder of 2 sources, and a working folder."""
    path = tmp_path / "package" / "ladder.parquet"
    path.parent.mkdir()
    ScoreTable.concat([made(AVERAGED), made(RAW)]).write(path)
    monkeypatch.setattr(embedded, "ladder_path", lambda: path)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return path


def call(*args: str, code: int = 0):
    done = CliRunner().invoke(app, list(args))
    assert done.exit_code == code, (done.output, done.exception)
    return done


def test_a_name_stands_for_the_scores_of_the_package(package) -> None:
    named = {"": {AVERAGED}, ":averaged": {AVERAGED}, ":raw": {RAW}, ":all": {AVERAGED, RAW}}
    for name, sources in named.items():
        assert set(load([f"ladder{name}"]).frame["source"]) == sources
    assert load(["ladder:averaged"]).digest == made(AVERAGED).digest == ladder("averaged").digest
    assert set(load(["ladder"]).frame["family"]) == {EVEN} and load(["ladder"]).digest == ladder().digest
    with pytest.raises(UsageError, match="'mean', valid are even, averaged, raw, all"):
        load(["ladder:mean"])


def test_a_file_of_that_name_is_told_by_its_path(package) -> None:
    made("mine").write("mine.parquet")
    Path("mine.parquet").rename("ladder")
    assert set(load(["ladder"]).frame["source"]) == {AVERAGED}
    assert set(load(["./ladder"]).frame["source"]) == {"mine"}
    told = call("classify", "./ladder", "--stage", "1e19..1e21", "--replicates", "30", "--json").stdout
    assert json.loads(told)["tasks"][0]["task"] == "piqa"


def test_it_goes_together_with_files_and_filters(package) -> None:
    made("mine", "boolq").write("mine.parquet")
    together = load(["ladder", "mine.parquet", "ladder"])
    assert len(together) == len(made(AVERAGED)) + len(made("mine", "boolq"))
    assert set(together.frame["source"]) == {AVERAGED, "mine"}
    assert set(load(["ladder:all"], source=[RAW]).frame["source"]) == {RAW}


def test_commands_take_it(package) -> None:
    assert "piqa" in call("classify", "ladder", "--stage", "1e19..1e21", "--replicates", "30").stdout
    call("read", "ladder:raw", "-o", "raw.parquet")
    assert ScoreTable.read("raw.parquet").digest == made(RAW).digest
    assert "ladder:raw" in " ".join(call("classify", "--help").stdout.split())


def test_it_is_listed_beside_what_can_be_fetched(package) -> None:
    first = next(line for line in call("sources").stdout.splitlines() if line.startswith("ladder "))
    assert "comes with the package" in first
    (one,) = json.loads(call("sources", "--json").stdout)["embedded"]
    assert one["name"] == "ladder" and one["bytes"] == package.stat().st_size
    with pytest.raises(UsageError, match="comes with the package"):
        fetch("ladder")


def test_a_package_without_them_says_so(package) -> None:
    package.unlink()
    assert json.loads(call("sources", "--json").stdout)["embedded"] == []
    with pytest.raises(StagewiseError, match=r"ladder\.parquet: .* install the package anew"):
        load(["ladder"])
