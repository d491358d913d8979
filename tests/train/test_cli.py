"""The command `train`: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from evalsuite.registry import Registry
from evalsuite.run_log import read
from tests.train.commands import Said, call, lines_of, signalled, toml
from tests.train.runs import SMALL, STEPS, at, corpus, same, steps_of, tokens
from train.cli import main
from train.config import read_config
from train.loop import LOG
from train.model import Model
from train.overlap import item_texts
from train.run import CONFIG
from train.sizes import PRESETS, preset

COMMANDS = ("run", "resume", "anneal", "data", "tokenizer", "sizes", "export", "average", "watch")
DOMAINS = ["code", "maths", "prose"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def text(base: Path) -> Path:
    return corpus(base / "text.jsonl")


@pytest.fixture(scope="module")
def config(base: Path) -> Path:
    """The settings of a small run on tokens that are there."""
    told = {**SMALL, "data.folder": str(tokens(base / "tokens"))}
    return toml(base / "run.toml", told)


@pytest.fixture(scope="module")
def done(base: Path, config: Path) -> tuple[Path, Said]:
    """A run, and what the command said."""
    return base / "done", call("run", config, "-o", base / "done")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str):
    said = call(command, "--help")
    assert f"Usage: train {command}" in said.plain and f"Example: train {command}" in said.plain


def test_help_lists_the_commands():
    assert [name for name in COMMANDS if f" {name} " not in call("--help").plain] == []


@pytest.mark.parametrize(
    "args",
    [(), ("walk",), ("run",), ("run", "--no-such-option"), ("run", "-o", "a", "--steps", "0"), ("resume",),
     ("anneal", "a", "-o", "b"), ("export", "a"), ("export", "a", "-o", "b", "--dtype", "int8")],
)  # fmt: skip
def test_a_wrong_call_exits_with_2(args: tuple[str, ...]):
    said = call(*args, code=2)
    assert "Usage: train" in " ".join((said.out + said.err).split())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--set", "optim.lrr=1"), "error: config: optim.lrr: unknown key; did you mean lr?"),
        (("--set", "zzz=1"), "error: config: zzz: unknown key; valid are steps, tokens, seed"),
        (("--set", "optim.lr=fast"), "error: config: optim.lr: got 'fast': "),
        (("--set", "steps"), "error: 'steps': valid is NAME=VALUE, such as optim.lr=1e-3"),
        (("nowhere.toml",), "error: nowhere.toml: no such file; give the TOML file of a run"),
    ],
)
@pytest.mark.parametrize("command", ["run", "data"])
def test_wrong_settings_exit_with_2(tmp_path: Path, command: str, args: tuple[str, ...], said: str):
    steps = ("--steps", "3") if command == "run" else ()
    told = call(command, *args, *steps, "-o", tmp_path / "new", code=2)
    assert said in told.err and not told.out
    assert not (tmp_path / "new" / CONFIG).exists()


def test_wrong_flags_exit_with_2(tmp_path: Path, config: Path):
    said = call("run", config, "--preset", "9t", "-o", tmp_path / "a", code=2)
    assert "preset '9t': valid are" in said.err
    said = call("run", config, "--steps", "3", "--tokens", "9", "-o", tmp_path / "a", code=2)
    assert "as steps or as tokens (one of them)" in said.err


def test_a_broken_file_exits_with_2(tmp_path: Path):
    (tmp_path / "a.toml").write_text("steps = \n")
    assert "cannot be read as TOML" in call("run", tmp_path / "a.toml", "-o", tmp_path / "b", code=2).err


def test_text_that_cannot_be_used_is_an_error_without_a_traceback(tmp_path: Path):
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\nno JSON\n')
    said = call("data", "--source", f"web={tmp_path / 'bad.jsonl'}", "-o", tmp_path / "out", code=1)
    assert said.err.startswith("error: ") and "bad.jsonl:2" in said.err and not said.out
    assert not (tmp_path / "out").exists()


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    said = call("export", tmp_path, "-o", tmp_path / "out", code=1)
    assert said.err == (
        "error: torch is not installed; training needs an extra: pip install 'stagewise[train]'\n"
    )


def test_another_missing_module_is_a_fault_of_ours(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with patch.object(sys, "argv", ["train", "sizes"]), pytest.raises(ModuleNotFoundError, match="pandas"):
        main()


def test_a_value_error_of_ours_keeps_its_traceback():
    with (
        patch.object(sys, "argv", ["train", "sizes"]),
        patch("train.sizes.size_of", side_effect=ValueError("ours")),
        pytest.raises(ValueError, match="ours"),
    ):
        main()


def test_a_path_that_cannot_be_used_is_told(tmp_path: Path, config: Path):
    (tmp_path / "file").write_text("")
    said = call("run", config, "-o", tmp_path / "file" / "run", code=1)
    assert said.err.startswith("error: ") and str(tmp_path / "file") in said.err


def test_what_is_interrupted_exits_with_130():
    with patch("train.sizes.size_of", side_effect=KeyboardInterrupt):
        call("sizes", code=130)


def test_run_prints_the_losses_of_its_log(done: tuple[Path, Said]):
    folder, said = done
    last = [line for line in read(folder / LOG) if line["kind"] == "validation"][-1]
    assert said.plain.startswith("domain bits per byte nats per token")
    table = lines_of(said.out)
    assert {name: table[name][0] for name in DOMAINS} == {k: f"{v:.4f}" for k, v in last["bpb"].items()}
    assert f"step {STEPS} of {STEPS}, {STEPS * 64:,} tokens, " in said.err
    assert steps_of(folder)[-1] == STEPS


def test_run_prints_json(tmp_path: Path, config: Path, done: tuple[Path, Said]):
    found = call("run", config, "-o", tmp_path / "a", "--json").json
    same(tmp_path / "a", done[0])
    assert set(found) == {"step", "steps", "stopped", "skipped", "tokens", "flops", "validation"}
    assert (found["step"], found["steps"], found["tokens"]) == (STEPS, STEPS, STEPS * 64)
    assert not found["stopped"] and found["skipped"] == 0 and list(found["validation"]) == DOMAINS
    table = lines_of(done[1].out)
    for name, one in found["validation"].items():
        assert table[name] == [f"{one['bpb']:.4f}", f"{one['nats_per_token']:.4f}"]


def test_run_takes_flags(tmp_path: Path, base: Path, config: Path):
    folder = tmp_path / "a"
    call("run", config, "-o", folder, "--tokens", "200", "--seed", "7", "--data", base / "tokens",
         "--set", "optim.lr=1e-3", "--set", "validation.tokens=30")  # fmt: skip
    found = read_config(folder / CONFIG)
    assert (found.steps, found.seed, found.optim.lr, found.validation.tokens) == (4, 7, 1e-3, 30)


def test_a_folder_with_a_run_is_refused(done: tuple[Path, Said], config: Path):
    said = call("run", config, "-o", done[0], code=2)
    assert f"holds a run; go on with `train resume {done[0]}`" in said.err


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_stopped_run_exits_with_0_and_goes_on(
    tmp_path: Path, config: Path, done: tuple[Path, Said], name: str
):
    folder = tmp_path / "a"
    with signalled(7, name):
        said = call("run", config, "-o", folder, "--json")
    step = said.json["step"]
    assert said.json["stopped"] == name and 7 <= step < STEPS and steps_of(folder)[-1] == step
    assert f"stopped by {name} at step {step}; go on with: train resume {folder}" in said.err
    said = call("resume", folder)
    assert said.out == done[1].out and f"goes on after step {step} of {STEPS}" in said.err
    same(folder, done[0])


def test_resume_of_a_finished_run_prints_it_again(done: tuple[Path, Said]):
    folder, said = done
    assert call("resume", folder).out == said.out
    assert call("resume", folder, "--json").json["step"] == STEPS


def test_resume_needs_a_run(tmp_path: Path):
    said = call("resume", tmp_path, code=2)
    assert said.err == f"error: {tmp_path}: holds no {CONFIG}; give the folder of a run\n"


def test_anneal_branches_off(tmp_path: Path, done: tuple[Path, Said]):
    folder = tmp_path / "b"
    found = call("anneal", at(done[0], 12), "--steps", "3", "-o", folder, "--mixture", "code=1",
                 "--mixture", "prose=0.5 until step 14, then 0", "--json").json  # fmt: skip
    assert (found["step"], found["steps"]) == (15, 15) and list(found["validation"]) == DOMAINS
    assert steps_of(folder)[-1] == 15
    mixture = read_config(folder / CONFIG).mixture
    assert str(mixture["code"]).endswith(" until step 12, then 1.0")
    assert str(mixture["prose"]).endswith(" until step 12, then 0.5 until step 14, then 0.0")
    said = call("anneal", at(done[0], 12), "--steps", "3", "-o", folder, code=2)
    assert "holds a run" in said.err


def test_anneal_needs_a_checkpoint(tmp_path: Path):
    said = call("anneal", tmp_path, "--steps", "3", "-o", tmp_path / "b", code=2)
    assert "no checkpoint of a run; give RUN/checkpoints/step-N" in said.err


def test_data_makes_tokens_to_train_on(tmp_path: Path, text: Path):
    out = tmp_path / "tokens"
    args = ("data", "--source", text, "--tokenizer", "300", "--set", "data.overlap=false",
            "--set", "data.held_out=0.1")  # fmt: skip
    said = call(*args, "-o", out)
    table = lines_of(said.out)
    assert said.plain.startswith("domain ") and set(DOMAINS) < set(table)
    assert said.err == f"{out}: 300 ids; train on it with: train run --data {out}\n"
    told = call(*args, "-o", tmp_path / "again", "--json").json
    rows = {one["domain"]: one for one in told["domains"]}
    assert list(rows) == DOMAINS and told["refused"] == {}
    for name, row in rows.items():
        assert f"{row['documents']:,}" in table[name] and f"{row['tokens']:,}" in table[name]
    assert (out / "data.json").read_bytes() == (tmp_path / "again" / "data.json").read_bytes()
    said = call(*args, "-o", out, code=2)
    assert said.err == f"error: {out}: is not empty; give another folder for the tokens\n"


def test_data_takes_the_text_of_a_file_of_settings(tmp_path: Path, text: Path):
    """Also of one that gives the length of its run in tokens."""
    told = {"tokens": 1e6, "data.sources": [str(text)], "data.tokenizer": "bytes", "data.overlap": False}
    said = call("data", toml(tmp_path / "a.toml", told), "-o", tmp_path / "b")
    assert "257 ids" in said.err


def test_data_has_no_use_for_tokens(tmp_path: Path, config: Path):
    said = call("data", config, "-o", tmp_path / "a", code=2)
    assert "data.folder names tokens that are made already" in said.err


def test_data_tells_what_it_drops(tmp_path: Path):
    """Documents that hold an item of a benchmark."""
    registry = Registry.open()
    tasks = map(registry.task, registry.names())
    task = next(one for one in tasks if len(item_texts(one, one.items[0])[0].split()) > 20)
    items = [item_texts(task, task.items[0])[0], "Nothing of the kind stands in here, nor anywhere near it."]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in items))
    args = ("data", "--source", f"web={tmp_path / 'a.jsonl'}", "--tokenizer", "bytes")
    said = call(*args, "-o", tmp_path / "out")
    assert f"web: dropped for sharing 13 words with a benchmark item: {task.name} 1" in said.err
    assert lines_of(said.out)["web"][0] == "1"
    assert list(call(*args, "-o", tmp_path / "again", "--json").json["refused"]) == ["web"]


@pytest.mark.parametrize("tied", [True, False])
def test_sizes_are_those_of_built_models(tied: bool):
    """Oracle: the weights of the smallest model, counted."""
    args = ("sizes", "--vocab", "300", "--context", "16", "--tied" if tied else "--no-tied")
    rows = call(*args, "--json").json["sizes"]
    assert [one["preset"] for one in rows] == list(PRESETS)
    first = rows[0]
    model = Model(preset(first["preset"], vocab_size=300, context_length=16, tied=tied))
    params = sum(one.numel() for one in model.parameters())
    assert first["params"] == params
    assert first["embedding_share"] == pytest.approx((2 - tied) * 300 * first["width"] / params)
    table = lines_of(call(*args).out)
    assert list(table)[1:] == list(PRESETS) and f"{params:,}" in table[first["preset"]]


def test_export_writes_a_folder(tmp_path: Path, done: tuple[Path, Said]):
    out = tmp_path / "out"
    said = call("export", done[0], "-o", out, "--dtype", "bfloat16")
    assert said.err == f"{out}: step {STEPS}\n"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {one.name for one in out.iterdir()}
    assert "bfloat16" in (out / "config.json").read_text()
    again = call("export", at(done[0], 6), "-o", out, code=1)
    assert "holds an export already" in again.err
    assert call("export", at(done[0], 6), "-o", out, "--force").err == f"{out}: step 6\n"


def test_export_needs_a_run(tmp_path: Path):
    said = call("export", tmp_path / "nowhere", "-o", tmp_path / "out", code=2)
    assert "give RUN, or RUN/checkpoints/step-N" in said.err and not (tmp_path / "out").exists()
