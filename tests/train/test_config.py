"""Settings: through TOML and back, and every unknown key and wrong value named."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.sources import Source
from scaling.errors import UsageError
from train.config import RunConfig, parse_config, read_config, write_config

# A value other than the default for every setting. What is not here has no test: see below.
OTHER: dict[str, Any] = {
    "steps": 7, "seed": 2**63 - 1, "mixture": {"code": "0.3 until 40%, then 0", "a.b c": 0.7},
    "data.folder": "tokens/ü", "data.tokenizer": "bytes", "data.held_out": 0.125, "data.overlap": False,
    "data.sources": [
        {"path": "a.jsonl", "domain": "x", "text": "body", "domain_field": "kind", "split": "test", "most": 9,
         "files": ["*.jsonl", "!b*"], "held_out": True, "drop_bad": True},
        {"path": 'quote " \\ back', "files": "*.txt"},
    ],
    "model.preset": "6m", "model.context": 31, "model.layers": 3, "model.width": 48, "model.heads": 6,
    "model.kv_heads": 2, "model.head_width": 10, "model.hidden": 77, "model.tied": False,
    "model.qk_norm": False, "model.rope_theta": 1e6, "mtp.depth": 2, "mtp.weight": "0.3 until 67%, then 0.1",
    "batch.rows": 5, "batch.micro": 2, "optim.name": "adamw", "optim.lr": 0.1 + 0.2,
    "optim.weight_decay": 0.0,
    "optim.clip": 0.5, "optim.beta1": 0.8, "optim.beta2": 0.999, "optim.eps": 1e-30, "optim.momentum": 0.0,
    "schedule.kind": "cosine", "schedule.warmup": 3.0, "schedule.decay": 0.5, "schedule.floor": 1 / 3,
    "validation.every": 0, "validation.tokens": 11, "checkpoint.every": 3, "checkpoint.keep_last": 6,
    "checkpoint.keep_every": 4, "guard.spike": 7.5, "guard.stop_after": 0, "device.device": "cpu",
    "device.parallel": "fsdp", "device.precision": "bfloat16", "device.compile": True,
    "device.recompute": True,
    "device.threads": 1, "track.tensorboard": True, "track.wandb": "trackio", "track.project": "other",
    "eval.suites": ["early.yaml", "mid.yaml"], "eval.tasks": ["skill_*"], "eval.metric": "acc",
    "eval.items": 40, "eval.folders": ["benchmarks"], "eval.every": 7, "eval.average": 8,
    "eval.spacing": "2e6 tokens", "eval.least": 5, "eval.weights": "ema", "eval.where": "memory",
    "eval.raw": 3, "eval.budget": 0.05, "eval.rate": 0.01, "eval.process": True,
}  # fmt: skip


def names(of: Any = None, above: str = "") -> list[str]:
    """Every setting, dotted."""
    of = of or RunConfig(steps=1)
    found = []
    for one in fields(of):
        value = getattr(of, one.name)
        inner = is_dataclass(value) and not isinstance(value, Source)
        found += names(value, f"{above}{one.name}.") if inner else [above + one.name]
    return found


def told(config: RunConfig, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def test_every_setting_is_tried_here():
    """Oracle: the dataclasses themselves."""
    assert set(OTHER) | {"tokens"} == set(names())


@pytest.mark.parametrize("name", sorted(OTHER))
def test_a_setting_goes_through_a_file(tmp_path, name):
    """Oracle: the value that was given; it differs from the default, and nothing else does."""
    plain = read_config(settings={"steps": 1})
    config = read_config(settings={"steps": 1, name: OTHER[name]})
    assert told(config, name) != told(plain, name)
    assert [one for one in names() if told(config, one) != told(plain, one)] == [name]
    write_config(config, tmp_path / "config.toml")
    assert read_config(tmp_path / "config.toml") == config


def test_all_of_them_at_once(tmp_path):
    config = read_config(settings=OTHER)
    assert config.mtp.weight == "0.3 until 67%, then 0.1" and config.data.sources[0].most == 9
    write_config(config, tmp_path / "config.toml")
    again = read_config(tmp_path / "config.toml")
    assert again == config and asdict(again) == asdict(config)
    write_config(again, tmp_path / "again.toml")
    assert (tmp_path / "again.toml").read_bytes() == (tmp_path / "config.toml").read_bytes()


def test_a_file_names_every_setting_that_has_a_value(tmp_path):
    """Nothing a run depends on may follow from the version of the program alone."""
    config = read_config(settings=OTHER)
    write_config(config, tmp_path / "config.toml")
    read = tomllib.loads((tmp_path / "config.toml").read_text("utf-8"))
    for name in OTHER:
        value: Any = read
        for part in name.split(".") if name != "mixture" else [name]:
            value = value[part]
    write_config(RunConfig(steps=1), tmp_path / "plain.toml")
    read = tomllib.loads((tmp_path / "plain.toml").read_text("utf-8"))
    assert read["optim"]["beta2"] == 0.95 and "lr" not in read["optim"] and "tokens" not in read


positive = st.floats(0, 1e300, exclude_min=True, allow_nan=False)


@settings(max_examples=60)
@given(
    lr=positive, eps=positive, seed=st.integers(0, 2**63 - 1), floor=st.floats(0, 1),
    warmup=st.floats(0, 1e6),
    domains=st.dictionaries(st.text(min_size=1).map(str.strip).filter(bool), st.floats(0, 10), max_size=3),
    project=st.text(),
)  # fmt: skip
def test_any_numbers_and_names_go_through_a_file(
    tmp_path_factory, lr, eps, seed, floor, warmup, domains, project
):
    """Oracle: the config that was written; floats to the last bit, names of any letters."""
    config = parse_config(
        {"steps": 1, "seed": seed, "mixture": domains, "optim": {"lr": lr, "eps": eps},
         "schedule": {"floor": floor, "warmup": warmup}, "track": {"project": project}}, "here",
    )  # fmt: skip
    assert config.optim.lr == lr and config.mixture == domains
    path = tmp_path_factory.mktemp("config") / "config.toml"
    write_config(config, path)
    assert read_config(path) == config


def test_a_file_and_settings_that_count_more(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("steps = 5\n[optim]\nlr = 0.5\nclip = 0.25\n[mixture]\ncode = 1\n", "utf-8")
    config = read_config(path, {"optim.lr": 0.1, "mixture.prose": 0.5, "data.sources": ["a.txt", "b.txt"]})
    assert (config.steps, config.optim.lr, config.optim.clip) == (5, 0.1, 0.25)
    assert config.mixture == {"code": 1, "prose": 0.5}
    assert config.data.sources == (Source("a.txt"), Source("b.txt"))


def test_settings_are_left_as_they_were():
    given = {"data": {"sources": ["a"]}, "steps": 3}
    parse_config(given, "here")
    assert given == {"data": {"sources": ["a"]}, "steps": 3}


def test_defaults_are_as_documented():
    config = RunConfig(steps=10)
    assert config == read_config(settings={"steps": 10})
    assert replace(config, seed=1).seed == 1


# --- lengths --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "steps"),
    [(1, 1), (64, 1), (65, 2), (6400, 100), (6401, 101), (1e12, 15_625_000_000), (0.5, 1)],
)
def test_tokens_are_rounded_up_to_steps(tokens, steps):
    """Oracle: by hand, at 4 rows of 16."""
    told = {"tokens": tokens, "batch.rows": 4, "model.context": 16}
    assert read_config(settings=told).length == steps


def test_parts_of_a_run():
    config = RunConfig(steps=1000)
    parts = {0: 0, 0.02: 20, 0.25: 250, 0.29: 290, 0.999: 999, 1.0: 1, 250.0: 250}
    assert {part: config.span(part) for part in parts} == parts


@pytest.mark.parametrize("told", [{}, {"steps": 5, "tokens": 10}])
def test_one_length_is_given(told):
    with pytest.raises(UsageError, match="give the length of the run, as steps or as tokens"):
        read_config(settings=told)


# --- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(OTHER) - {"mixture"}))
def test_an_unknown_key_is_named_with_the_closest(name):
    """Oracle: the key, a letter longer."""
    *sections, last = name.split(".")
    with pytest.raises(UsageError) as caught:
        read_config(settings={"steps": 1, f"{name}s": 3})
    assert str(caught.value) == f"config: {name}s: unknown key; did you mean {last}?"
    if sections:
        with pytest.raises(
            UsageError, match=rf"config: {sections[0]}z: unknown key; did you mean {sections[0]}"
        ):
            read_config(settings={"steps": 1, f"{sections[0]}z.{last}": 3})


@pytest.mark.parametrize("key", ["domian", "txt", "pathh"])
def test_an_unknown_key_of_a_source(key):
    with pytest.raises(UsageError, match=rf"config: data\.sources\.1\.{key}: unknown key; did you mean"):
        parse_config({"steps": 1, "data": {"sources": ["a", {"path": "b", key: "x"}]}}, "config")


def test_a_key_like_none_is_told_what_there_is():
    with pytest.raises(UsageError, match=r"optim\.zzz: unknown key; valid are name, lr, weight_decay, clip"):
        read_config(settings={"steps": 1, "optim.zzz": 3})


WRONG: dict[str, list[Any]] = {
    "steps": [0, -1, 1.5, "many", [1]], "tokens": [0, "many"], "seed": [-1, 2**63],
    "mixture": ["code", [1]], "data.folder": [3], "data.sources": ["embedded", 3],
    "data.held_out": [1.0, -0.1],
    "data.overlap": ["perhaps"], "model.preset": [3], "model.context": [1], "model.layers": [0],
    "model.width": [1], "model.heads": [0], "model.kv_heads": [0], "model.head_width": [1],
    "model.hidden": [0], "model.tied": ["perhaps"], "model.qk_norm": [7], "model.rope_theta": [1.0],
    "mtp.depth": [-1], "batch.rows": [0], "batch.micro": [0], "optim.name": ["sgd", 3],
    "optim.lr": [0.0, "x"],
    "optim.weight_decay": [-0.1], "optim.clip": [-1.0], "optim.beta1": [1.0], "optim.beta2": [-0.1],
    "optim.eps": [0.0], "optim.momentum": [1.0], "schedule.kind": ["linear"], "schedule.warmup": [-0.1],
    "schedule.decay": [-1], "schedule.floor": [1.1], "validation.every": [-1], "validation.tokens": [0],
    "checkpoint.every": [0], "checkpoint.keep_last": [4], "checkpoint.keep_every": [0], "guard.spike": [-1.0],
    "guard.stop_after": [-1], "device.device": [3], "device.parallel": ["tensor"],
    "device.precision": ["half"],
    "device.compile": ["perhaps"], "device.recompute": ["perhaps"], "device.threads": [0],
    "track.tensorboard": ["perhaps"], "track.wandb": ["mlflow"], "track.project": [3],
    "eval.suites": ["early.yaml"], "eval.tasks": [3], "eval.metric": [3], "eval.items": [0],
    "eval.folders": [3], "eval.every": [-1], "eval.average": [0], "eval.spacing": [[1]], "eval.least": [0],
    "eval.weights": ["median"], "eval.where": ["tape"], "eval.raw": [-1], "eval.budget": [1.0, -0.1],
    "eval.rate": [1.0], "eval.process": ["perhaps"],
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(WRONG))
def test_a_wrong_value_is_named_with_what_was_given(name):
    base = {} if name == "tokens" else {"steps": 1}
    for value in WRONG[name]:
        with pytest.raises(UsageError) as caught:
            read_config(settings=base | {name: value})
        assert str(caught.value).startswith(f"config: {name}: got {str(value)[:80]!r}: ")


def test_every_setting_is_refused_something():
    """But for texts and numbers that only the data can judge."""
    assert set(names()) - set(WRONG) == {"data.tokenizer", "mtp.weight"}


@pytest.mark.parametrize(
    "name", ["tokens", "optim.lr", "optim.weight_decay", "optim.clip", "optim.eps", "schedule.warmup",
             "schedule.decay", "guard.spike", "model.rope_theta"],
)  # fmt: skip
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_numbers_that_are_none(name, value):
    """TOML has inf and nan: they are no settings."""
    base = {} if name == "tokens" else {"steps": 1}
    with pytest.raises(UsageError, match=rf"^config: {name}: got '{value}': "):
        read_config(settings=base | {name: value})


@pytest.mark.parametrize("name", ["mtp.weight", "mixture.code", "data.tokenizer"])
def test_a_setting_of_several_kinds_is_named_as_it_is_written(name):
    """No line may name a key that there is not, such as mtp.weight.float."""
    with pytest.raises(UsageError) as caught:
        read_config(settings={"steps": 1, name: [1]})
    for line in str(caught.value).splitlines():
        assert line.startswith(f"config: {name}: got '[1]': "), line


def test_all_problems_are_told_at_once(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('steps = 0\nsteds = 1\n[optim]\nlr = -1.0\nname = "sgd"\n[modle]\nlayers = 3\n', "utf-8")
    with pytest.raises(UsageError) as caught:
        read_config(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 5 and all(line.startswith(f"{path}: ") for line in lines)
    for part in ("steps: got '0'", "steds: unknown key", "optim.lr: got '-1.0'", "optim.name: got 'sgd'",
                 "modle: unknown key"):  # fmt: skip
        assert any(part in line for line in lines), part


@pytest.mark.parametrize("content", [b"steps = ", b"\xff\xfe", b"steps = 1\nsteps = 2\n"])
def test_a_file_that_is_no_toml(tmp_path, content):
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read as TOML"):
        read_config(path)
    with pytest.raises(UsageError, match="cannot be read as TOML"):
        read_config(tmp_path)


def test_no_file():
    with pytest.raises(UsageError, match=r"nowhere\.toml: no such file; give the TOML file of a run"):
        read_config(Path("nowhere.toml"))


def test_a_setting_below_one_that_is_no_section():
    with pytest.raises(UsageError, match=r"^seed\.x: seed is no section"):
        read_config(settings={"seed": 1, "seed.x": 2})
