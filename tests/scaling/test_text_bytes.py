"""Training data in bytes of text."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scaling.errors import StagewiseError
from scaling.models import known_models, model_info
from scaling.scores import ScoreTable
from scaling.text_bytes import in_text_bytes

KNOWN = [name for name in known_models() if model_info(name).bytes_per_token][:3]


def table(*models: str) -> ScoreTable:
    frame = pd.DataFrame(
        {"model": models, "params": 1e8, "tokens": [1e9 * (i + 1) for i in range(len(models))]}
    )
    frame["flops"] = 7.0 * frame["params"] * frame["tokens"]  # as its authors count it
    return ScoreTable.from_frame(frame.assign(source="s", task="a", metric="acc", score=0.5))


def test_tokens_and_compute_are_multiplied():
    # Oracle: by hand, from the facts about each model.
    before = table(*KNOWN)
    after = in_text_bytes(before)
    factor = np.array([model_info(str(name)).bytes_per_token for name in before.frame["model"]])
    assert after.frame["tokens"].to_numpy() == pytest.approx(before.frame["tokens"] * factor)
    assert after.frame["flops"].to_numpy() == pytest.approx(before.frame["flops"] * factor)
    unchanged = [name for name in before.frame if name not in ("tokens", "flops")]
    pd.testing.assert_frame_equal(after.frame[unchanged], before.frame[unchanged])
    assert not after.omissions


def test_the_table_itself_stays_as_it_is():
    before = table(*KNOWN)
    copy = before.frame.copy()
    in_text_bytes(before)
    pd.testing.assert_frame_equal(before.frame, copy)


def test_unknown_models_are_left_out_and_counted():
    # Oracle: by construction.
    after = in_text_bytes(table(KNOWN[0], "nobody's model", "another"))
    assert after.frame["model"].tolist() == [KNOWN[0]]
    assert [(one.what, one.count) for one in after.omissions] == [("bytes per token unknown", 2)]


def test_unknown_compute_stays_unknown():
    # Oracle: NA times anything.
    frame = table(KNOWN[0]).frame.assign(tokens=np.nan, flops=np.nan)
    after = in_text_bytes(ScoreTable.from_frame(frame)).frame
    assert after[["tokens", "flops"]].isna().all(axis=None)


def test_a_table_of_unknown_models_alone_is_refused():
    with pytest.raises(StagewiseError, match=r"none of the models are known \(another, nobody's model"):
        in_text_bytes(table("nobody's model", "another"))
