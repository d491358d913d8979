"""`train tokenizer`: what it prints, what it keeps, and how it fails."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest

from scaling.errors import UsageError
from tests.train.commands import Said, call, lines_of, toml
from tests.train.runs import SMALL, corpus
from train.vocabulary import BYTES

# Short runs of two tenths of a second.
SHORT = ("--context", "16", "--flops", "4e7")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def text(base: Path) -> Path:
    return corpus(base / "text.jsonl")


@pytest.fixture(scope="module")
def short(base: Path, text: Path) -> tuple[Path, Path]:
    """Settings for `train tokenizer`, and the folder it keeps."""
    told = {key: value for key, value in SMALL.items() if key.startswith(("model", "device"))}
    shape = {**told, "data.sources": [str(text)], "data.overlap": False, "data.held_out": 0.1}
    return toml(base / "short.toml", shape), base / "kept"


@pytest.fixture(scope="module")
def compared(short: tuple[Path, Path]) -> Said:
    config, folder = short
    return call("tokenizer", config, "--vocab", "bytes,300", "--seeds", "0,1", "-o", folder, *SHORT)


def test_tokenizer_prints_a_row_for_each_vocabulary(compared: Said, short: tuple[Path, Path]):
    assert compared.plain.startswith(
        "vocabulary ids bytes per token words per token embedding share FLOPs per byte steps bpb sd "
        "bpb code bpb maths bpb prose "
    )
    table = lines_of(compared.out)
    assert list(table)[1:] == [BYTES, "300"] and {len(table[one]) for one in (BYTES, "300")} == {11}
    assert table[BYTES][:2] == ["257", "1.000"] and float(table["300"][1]) > 1
    assert "vocabulary 300: " in compared.err and "steps say little of its loss" in compared.err
    assert "one seed gives no spread" not in compared.err
    assert f"{short[1]}: keeps the text, the tokens and the runs" in compared.err


def test_tokenizer_goes_on_from_what_is_kept(compared: Said, short: tuple[Path, Path], tmp_path: Path):
    config, folder = short
    picture = tmp_path / "a.png"
    with patch("train.run.start", None):  # no run may begin
        said = call("tokenizer", config, "--vocab", "bytes,300", "--seeds", "0", "-o", folder, *SHORT,
                    "--json", "--plot", picture)  # fmt: skip
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = said.json
    assert set(found) == {"flops", "vocabularies", "domains", "runs", "notes"} and found["flops"] == 4e7
    assert any("one seed gives no spread" in one for one in found["notes"])
    assert [one["bpb_sd"] for one in found["vocabularies"]] == [None, None]
    assert [one["seed"] for one in found["runs"]] == [0, 0]
    for one in found["vocabularies"]:
        row = lines_of(compared.out)[one["vocabulary"]]
        assert row[1:5] == [
            f"{one['bytes_per_token']:.3f}", f"{one['words_per_token']:.3f}", f"{one['embedding_share']:.1%}",
            f"{one['flops_per_byte']:.3g}",
        ]  # fmt: skip
        assert row[5] == str(one["steps"])


def test_tokenizer_without_runs(short: tuple[Path, Path]):
    said = call("tokenizer", short[0], "--vocab", "300", "--no-train")
    assert said.plain.startswith(
        "vocabulary ids bytes per token words per token embedding share FLOPs per byte "
        "bytes per token of code bytes per token of maths bytes per token of prose 300 300 "
    )
    assert "seed" not in said.err and "FLOPs" not in said.err


def test_tokenizer_hands_on_what_it_is_told(tmp_path: Path, text: Path):
    """Flags before --set before the file before defaults; what a file says of long runs is told and left."""
    file = toml(
        tmp_path / "a.toml",
        {"steps": 9, "seed": 4, "mixture.code": 1, "data.folder": "tokens", "model.preset": "0.1m",
         "model.context": 8, "optim.lr": 0.1, "batch.rows": 2},
    )  # fmt: skip
    with patch("train.tradeoff.tradeoff", side_effect=UsageError("enough")) as asked:
        said = call("tokenizer", file, "--vocab", "1k", "--source", f"web={text}", "--context", "32",
                    "--set", "optim.lr=0.2", "--seconds", "3", code=2)  # fmt: skip
        args, told = asked.call_args
        call("tokenizer", "--vocab", "300", "--seeds", "3, 4", "--set", "data.overlap=false", code=2)
        _, plain = asked.call_args
    assert said.err == f"{file}: not used here: steps, mixture.code, data.folder\nerror: enough\n"
    (source,) = args[0]
    assert (source.path, source.domain, args[1]) == (str(text), "web", (1024,))
    assert (told["preset"], told["context"], told["rows"], told["seeds"]) == ("0.1m", 32, 2, (4,))
    assert (told["flops"], told["seconds"], told["settings"]["optim.lr"]) == (None, 3, 0.2)
    assert told["refuse"] is not None and told["train"] and told["folder"] is None
    assert (plain["preset"], plain["context"], plain["rows"], plain["seeds"]) == ("0.3m", 128, 4, (3, 4))
    assert plain["refuse"] is None


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--vocab", "2m"), "vocabulary: got '2m' in '2m'; valid are whole numbers"),
        (("--seeds", "1,x"), "--seeds: got '1,x'; valid are whole numbers from 0"),
        (("--seeds", "1,1"), "seeds: got [1, 1], valid is at least one, each once"),
        (("--seeds", "-1"), "--seeds: got '-1'"),
        (("--flops", "1e9", "--seconds", "1"), "got both flops and seconds; give one of them"),
        (("--flops", "-1"), "flops: got -1.0, valid is a number above 0"),
        (("--no-train", "--seeds", "1"), "--no-train: makes no runs"),
        (("--plot", "a.gif"), "a.gif: valid suffixes are .png, .svg, .pdf"),
        (("--set", "steps=3"), "--set steps: means nothing here; valid are batch.rows, data.held_out"),
        (("--set", "optim.lrr=3"), "optim.lrr: unknown key; did you mean lr?"),
        (("--set", "data.folder=a"), "--set data.folder: means nothing here"),
    ],
)
def test_tokenizer_refuses_what_makes_no_sense(args: tuple[str, ...], said: str):
    told = call("tokenizer", *args, code=2)
    assert told.err.startswith("error: ") and said in told.err and not told.out


def test_tokenizer_needs_text(tmp_path: Path):
    file = toml(tmp_path / "a.toml", {"data.folder": "tokens"})
    assert "text is needed: give --source" in call("tokenizer", file, code=2).err
