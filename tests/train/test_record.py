"""What a run was started with: edits that would make it another run are seen and named."""

import json
from pathlib import Path

import pytest

from scaling.errors import StagewiseError
from tests.train import runs
from tests.train.runs import CONFIG, config, data
from train.config import read_config
from train.record import RECORD, course_of, settle

__all__ = ["data"]


def test_the_first_is_noted_and_others_are_compared(tmp_path: Path) -> None:
    settle(tmp_path, "one", {"a": {"b": 1}, "c": [1, 2]})
    settle(tmp_path, "one", {"a": {"b": 1}, "c": (1, 2)})
    settle(tmp_path, "other", {"a": 3})
    with pytest.raises(StagewiseError, match=r"a\.b was 1 when the run was started and is 2 now"):
        settle(tmp_path, "one", {"a": {"b": 2}, "c": [1, 2]})
    with pytest.raises(StagewiseError, match=r"c was \[1, 2\] .* is None now"):
        settle(tmp_path, "one", {"a": {"b": 1}})
    settle(tmp_path, "one", {"a": 5}, anew=True)
    assert json.loads((tmp_path / RECORD).read_text()) == {"one": {"a": 5}, "other": {"a": 3}}


def test_a_broken_record(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(StagewiseError, match="is no JSON"):
        settle(tmp_path, "one", {})


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("rows = 5", "rows = 4", "batch.rows was 5"),
        ("seed = 0", "seed = 1", "seed was 0"),
        ("lr = 0.004", "lr = 0.002", "optim.lr was 0.004"),
    ],
)
def test_an_edited_setting_is_no_resume(data, tmp_path, old, new, told):
    """What decides the weights stays; how they are kept may change."""
    folder = tmp_path / "run"
    runs.start(folder, config(data, steps=6, batch__rows=5))
    text = (folder / CONFIG).read_text()
    assert old in text
    (folder / CONFIG).write_text(text.replace(old, new))
    with pytest.raises(StagewiseError, match=told):
        runs.resume(folder)
    (folder / CONFIG).write_text(text.replace("keep_last = 5", "keep_last = 9"))
    assert "keep_last = 9" in (folder / CONFIG).read_text()
    assert runs.resume(folder).step == 6


def test_tokens_of_another_text_are_not_taken(tmp_path):
    """A start that failed after its tokens were made leaves them; the next must not train on them unasked."""
    one, other = runs.corpus(tmp_path / "one.jsonl"), runs.corpus(tmp_path / "other.jsonl")
    told = {"data__tokenizer": "bytes", "data__overlap": False, "steps": 2}
    with pytest.raises(ValueError, match="unknown domain 'cod'"):
        runs.start(tmp_path / "run", config(None, **told, data__sources=[str(one)], mixture={"cod": 1.0}))
    with pytest.raises(StagewiseError, match=r"data\.sources was .*one\.jsonl.* is .*other\.jsonl.* now"):
        runs.start(tmp_path / "run", config(None, **told, data__sources=[str(other)]))
    assert runs.start(tmp_path / "run", config(None, **told, data__sources=[str(one)])).step == 2


def test_what_may_change_is_not_in_it():
    one = read_config(settings={"steps": 3, "batch.rows": 4})
    other = read_config(
        settings={"steps": 3, "batch.rows": 4, "batch.micro": 2, "checkpoint.every": 7, "device.threads": 1}
    )
    assert course_of(one) == course_of(other)
