"""The command: exit codes, what goes where, and that a failure leaves files as they were."""

import json
from pathlib import Path

import pytest
import yaml

from scaling.classes import classify
from tests.evalsuite.console import caller
from tests.evalsuite.world import STAGE, TASKS, remembered, scores


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    scores().to_csv(folder / "scores.csv", index=False)
    # In another world nobody learns alpha.
    scores(tasks={**TASKS, "alpha": (20.0, 0.0)}).to_csv(folder / "other.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def classified():
    return remembered()


@pytest.fixture
def run(home: Path, classified, monkeypatch, capsys):
    monkeypatch.chdir(home)
    monkeypatch.setattr("evalsuite.build.classify", classified)
    return caller(monkeypatch, capsys)


BUILD = ("build", "--scores", "scores.csv", "--stage", STAGE, "--replicates", "20")


def test_build_check_edit_show_diff(run, home: Path, monkeypatch) -> None:
    code, out, err = run(*BUILD, "-o", "a.yaml", "--audit", "audit.csv")
    assert code == 0, err
    assert "alpha" in out and "written" in err and "Traceback" not in err
    assert len((home / "audit.csv").read_text().splitlines()) == 1 + 7 * 2 + 1
    text = (home / "a.yaml").read_text()
    assert f"#   evalsuite {' '.join(BUILD)}\n" in text
    assert str(home) not in text
    with monkeypatch.context() as anew:
        anew.setattr("evalsuite.build.classify", classify)
        assert run(*BUILD, "-o", "b.yaml")[0] == 0
    assert (home / "b.yaml").read_bytes() == (home / "a.yaml").read_bytes()

    assert run(*BUILD, "-o", "a.yaml", "--check")[0] == 0
    assert run("show", "a.yaml")[2] == ""
    (home / "a.yaml").write_text(text.replace("items: 1000", "items: 999", 1))
    code, out, err = run(*BUILD, "-o", "a.yaml", "--check")
    assert code == 3 and "items: 999" in out and "no longer follows" in err
    code, out, err = run("show", "a.yaml")
    assert code == 0 and "alpha" in out and "warning" in err and "edited" in err

    code, out, err = run("build", "--scores", "other.csv", *BUILD[3:], "-o", "c.yaml")
    assert code == 0, err
    code, out, err = run("diff", "b.yaml", "c.yaml", "--exit-code")
    line = next(line for line in out.splitlines() if line.startswith("alpha"))
    assert code == 3 and "removed" in line and "p_early" in line
    found = json.loads(run("diff", "b.yaml", "c.yaml", "--json")[1])
    assert next(move for move in found["moves"] if move["task"] == "alpha")["what"] == "removed"
    assert run("diff", "b.yaml", "b.yaml", "--exit-code")[0] == 0


def test_without_output_the_suite_is_the_output(run) -> None:
    code, out, _ = run(*BUILD)
    assert code == 0 and yaml.safe_load(out)["format"] == 1
    code, out, _ = run(*BUILD, "--json", "--no-held-out")
    assert code == 0 and json.loads(out)["held_out"] == []


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (("--stage", "1e25..1e26"), 1, "outside all data"),
        (("--stage", "soon"), 2, "valid is LO..HI"),
        (("--stage", "1e21..1e19"), 2, "0 < LO < HI"),
        (("--stage", "nan..1e21"), 2, "0 < LO < HI"),
        (("--early-by", "-5"), 2, "valid is a positive number"),
        (("--source", "nosuch"), 2, "valid is made"),
        (("--scores", "nosuch.csv"), 1, "nosuch.csv"),
        (("--settings", "nosuch.yaml"), 1, "no such file"),
        (("--replicates", "3"), 2, "replicates"),
        (("--no-such-option",), 2, "No such option"),
    ],
)
def test_a_wrong_call_is_one_message_and_leaves_the_file(
    run, home: Path, change, code: int, words: str
) -> None:
    path = home / "kept.yaml"
    path.write_text("mine\n")
    found, out, err = run(*BUILD, "-o", "kept.yaml", *change)
    assert (found, out) == (code, "")
    assert words in err and "Traceback" not in err
    assert path.read_text() == "mine\n"


def test_broken_files(run, home: Path) -> None:
    (home / "broken.yaml").write_text("format: 1\nstage: {low: 1.0e+19\n")
    code, out, err = run("show", "broken.yaml")
    assert (code, out) == (1, "") and "broken.yaml, line 3: not valid YAML" in err
    assert run("diff", "broken.yaml", "broken.yaml")[0] == 1
    assert run(*BUILD, "-o", "broken.yaml", "--check")[0] == 3
    assert run(*BUILD, "-o", "nosuch.yaml", "--check")[0] == 1
    assert run(*BUILD, "--check")[0] == 2
    (home / "folder.yaml").mkdir()
    code, _, err = run(*BUILD, "-o", "folder.yaml")
    assert code == 1 and "folder.yaml" in err and "Traceback" not in err


def test_settings_give_names_and_overrides(run, home: Path) -> None:
    (home / "settings.yaml").write_text(
        "stages: {ours: {low: 1e19, high: 1e21}}\n"
        "overrides:\n  - {task: flat, metric: acc, action: keep, reason: the board asks for it}\n"
    )
    args = (
        "build",
        "--scores",
        "scores.csv",
        "--stage",
        "ours",
        "--settings",
        "settings.yaml",
        "--replicates",
        "20",
    )
    code, out, err = run(*args)
    assert code == 0, err
    found = yaml.safe_load(out)
    assert found["stage"]["name"] == "ours"
    assert {item["task"]: item["reason"] for item in found["tasks"]}[
        "flat"
    ] == "override: the board asks for it"
    assert "--settings settings.yaml" in out.splitlines()[2]


def test_a_note_of_the_settings_stands_at_the_head_and_is_checked(run, home: Path) -> None:
    note = "These models are small. " * 8
    (home / "noted.yaml").write_text(f"note: {note}\n")
    args = (*BUILD, "--settings", "noted.yaml", "-o", "noted_suite.yaml")
    code, out, err = run(*args)
    assert code == 0, err
    assert f"note: {note.strip()}\n" in out
    text = (home / "noted_suite.yaml").read_text()
    header, body = text.split("# content sha256:")
    assert header.startswith("# These models are small. ") and f"note: {note.strip()}\n" in body
    assert max(map(len, header.splitlines())) <= 110
    assert run(*args, "--check")[0] == 0 and run("show", "noted_suite.yaml")[2] == ""
    (home / "noted.yaml").write_text("note: They are large.\n")
    code, out, _ = run(*args, "--check")
    assert code == 3 and "setting note: " in out and "-> They are large." in out


def test_without_scores_those_of_the_package_and_their_stages(run, home: Path, monkeypatch) -> None:
    """The made world, at a millionth of a millionth of its compute."""
    from scaling import embedded
    from scaling.scores import ScoreTable

    frame = scores().assign(source=embedded.AVERAGED, family=embedded.EVEN)
    frame["flops"] /= 10.0**8.25
    ScoreTable.from_frame(frame).write(home / "package.parquet")
    monkeypatch.setattr(embedded, "ladder_path", lambda: home / "package.parquet")
    code, out, err = run(
        "build", "--stage", "mid", "--metric", "acc", "--task", "[!p]*", "--replicates", "30"
    )
    assert code == 0, err
    assert "taking ladder" in err and "package.parquet" not in out
    command = next(line for line in out.splitlines() if line.startswith("#   "))
    assert command == (
        "#   evalsuite build --scores ladder --stage mid --settings ladder --metric acc --task '[!p]*' "
        "--replicates 30"
    )
    found = yaml.safe_load(out)
    assert found["stage"] == {"name": "mid", "low": 3e11, "high": 6e12}
    assert found["provenance"]["sources"][0]["source"] == embedded.AVERAGED
    assert {item["metric"] for item in found["tasks"]} == {"acc"} and "tiny models" in out.split("\nformat")[
        0
    ]
    assert "past" not in {item["task"] for item in (*found["tasks"], *found["dropped"])}
    (home / "ladder").write_text("stages: {mid: {low: 1.0e+11, high: 1.0e+12}}\n")
    out = run("build", "--stage", "mid", "--settings", "./ladder", "--replicates", "30")[1]
    assert yaml.safe_load(out)["stage"]["low"] == 1e11 and "--settings ./ladder" in out
