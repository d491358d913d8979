"""The suites that are committed follow from their scores: each by the command in its own first lines."""

import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from evalsuite.settings import find_settings, find_stage, packaged_stages
from evalsuite.suite import Suite, edited, split
from scaling.readers import read_scores
from tests.evalsuite.console import caller

SUITES = Path(__file__).resolve().parents[2] / "evalsuite" / "suites"
LADDER = ("early", "mid", "late")
PUBLIC = SUITES / "public.yaml"


def command(path: Path) -> list[str]:
    (line,) = (line for line in path.read_text().splitlines() if line.startswith("#   evalsuite build "))
    return shlex.split(line.removeprefix("#   evalsuite"))


@pytest.mark.parametrize("name", LADDER)
def test_it_follows_from_the_scores_of_the_package(name, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)  # the command names no path: it holds anywhere
    path = SUITES / f"{name}.yaml"
    code, out, err = caller(monkeypatch, capsys)(*command(path), "-o", str(path), "--check")
    assert code == 0, out + err


def test_each_says_whom_it_speaks_for_and_is_of_its_stage() -> None:
    settings = find_settings("ladder")
    assert settings.note is not None
    for name in LADDER:
        path = SUITES / f"{name}.yaml"
        suite = Suite.read(path)
        header = " ".join(split(path.read_text())[0].replace("\n# ", " ").split())
        assert "ladder of tiny models speaks for tiny models" in header and settings.note in header
        bounds = settings.stages[name]
        assert (suite.stage.name, suite.stage.low, suite.stage.high) == (name, bounds.low, bounds.high)
        assert suite.provenance.scores.source == "all" and len(suite.provenance.sources) == 1


def test_adjacent_stages_overlap() -> None:
    for stages in (find_settings("ladder").stages, packaged_stages()):
        early, mid, late = (stages[name] for name in LADDER)
        assert early.low < mid.low < early.high < late.high
        assert mid.low < late.low < mid.high < late.high
    assert find_stage("mid", find_settings("ladder"))[1] != find_stage("mid")[1]


def test_the_public_one_is_as_it_was_built_and_names_no_place_on_a_machine() -> None:
    text = PUBLIC.read_text()
    assert edited(text) is None
    assert command(PUBLIC)[:3] == ["build", "--scores", "sources"]
    assert Suite.read(PUBLIC).stage.low == 1e18 and Suite.read(PUBLIC).stage.high == 1e22


def test_the_public_one_names_its_sources_by_their_digests(shared) -> None:
    """Of three that are read in a second; `make suites-check` reads all and builds the suite anew."""
    names = command(PUBLIC)
    metrics = [value for option, value in pairwise(names) if option == "--metric"]
    archives = {
        "openlm_scaling": "openlm_scaling",
        "gemstones": "gemstones",
        "lmeval_hist": "lmeval_hist_results",
    }
    found = read_scores([shared / "sources" / f"{name}.tar.zst" for name in archives.values()])
    told = {one.source: one for one in Suite.read(PUBLIC).provenance.sources}
    for name in archives:
        mask = (found.frame["source"] == name) & found.frame["metric"].isin(metrics)
        rows = found.where(mask, "other rows")
        assert (told[name].rows, told[name].digest) == (len(rows), rows.digest)
