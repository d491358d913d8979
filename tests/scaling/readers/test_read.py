"""Recognising files, archives, and bad input."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

import pandas as pd
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import scaling.readers.candidate as candidate
from scaling.errors import BadScores, StagewiseError, UnknownFormat
from scaling.readers import READERS, read_scores
from scaling.scores import ScoreTable

ROW = {"source": "s", "family": "f", "model": "m", "task": "piqa", "metric": "acc", "score": 0.5}


def result(score=0.6, **changes) -> bytes:
    document = {
        "results": {"piqa": {"acc": score}},
        "versions": {"piqa": 0},
        "config": {"model": "hf", "model_args": "pretrained=me/m", "num_fewshot": 0},
    }
    return json.dumps(document | changes).encode()


def tar(path, entries, compression=None):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for entry in entries:
            if isinstance(entry, tuple):
                member = tarfile.TarInfo(entry[0])
                member.size = len(entry[1])
                archive.addfile(member, io.BytesIO(entry[1]))
            else:
                archive.addfile(entry)
    body = raw.getvalue()
    if compression == "gzip":
        body = gzip.compress(body)
    elif compression == "zstd":
        body = pyarrow.compress(body, codec="zstd", asbytes=True)
    path.write_bytes(body)
    return path


def test_own_tables_come_back_unchanged(tmp_path):
    table = ScoreTable.from_frame(
        pd.DataFrame([ROW, ROW | {"model": "n", "params": 1e9, "tokens": 1e10, "step": 5}])
    )
    for name in ("a.parquet", "a.csv"):
        table.write(tmp_path / name)
        again = read_scores(tmp_path / name)
        assert again.digest == table.digest
    # A name of its own is not looked up again: this table may call its task whatever it likes.
    own = ScoreTable.from_frame(pd.DataFrame([ROW | {"source": "gemstones", "task": "coqa"}]))
    own.write(tmp_path / "own.parquet")
    assert read_scores(tmp_path / "own.parquet").frame["task"].item() == "coqa"


def test_content_decides_not_the_name(tmp_path):
    (tmp_path / "a.csv").write_bytes(result())
    assert read_scores(tmp_path / "a.csv").frame["score"].item() == 0.6


@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_archives_are_read_without_extraction(tmp_path, compression):
    path = tar(tmp_path / "anything", [("x/a.json", result()), ("LICENSE", b"free")], compression)
    before = sorted(tmp_path.iterdir())
    table = read_scores(path)
    assert table.frame["score"].item() == 0.6
    assert [item.count for item in table.omissions if "no known format" in item.what] == [1]
    assert sorted(tmp_path.iterdir()) == before


def _link(name, target, kind=tarfile.SYMTYPE):
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = target
    return member


@pytest.mark.parametrize(
    "entry",
    [
        ("../evil.json", b"{}"),
        ("a/../../evil.json", b"{}"),
        ("/abs/evil.json", b"{}"),
        ("..\\evil.json", b"{}"),
        ("C:/evil.json", b"{}"),
        _link("a/b", "../../out"),
        _link("a", "/out"),
        _link("a", "../out", tarfile.LNKTYPE),
        _link("dev", "", tarfile.CHRTYPE),
    ],
)
@pytest.mark.parametrize("drop_bad", [False, True])
def test_an_archive_that_points_outside_is_refused(tmp_path, entry, drop_bad):
    path = tar(tmp_path / "x.tar", [("a.json", result()), entry])
    with pytest.raises(StagewiseError, match=r"x\.tar: member"):
        read_scores(path, drop_bad=drop_bad)
    assert [p.name for p in tmp_path.parent.rglob("evil*")] == []


def test_links_inside_an_archive_are_fine(tmp_path):
    path = tar(tmp_path / "x.tar", [("a/r.json", result()), _link("a/b", "r.json")])
    assert len(read_scores(path)) == 1


def test_a_cut_short_archive(tmp_path):
    path = tar(tmp_path / "x.tgz", [("a.json", result()), ("b.bin", bytes(range(256)) * 500)], "gzip")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(StagewiseError, match=r"x\.tgz"):
        read_scores(path)


def test_a_lone_unknown_file_lists_the_formats(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UnknownFormat) as caught:
        read_scores(tmp_path / "notes.txt")
    for reader in READERS:
        assert reader.format in str(caught.value)


def test_unknown_files_of_a_folder_are_counted(tmp_path):
    (tmp_path / "r.json").write_bytes(result())
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.txt").write_text("y")
    (tmp_path / "empty").touch()
    (tmp_path / "other.json").write_text('{"lockfile": 1')
    (tmp_path / "log.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    (tmp_path / "c.bin").write_bytes(bytes(range(256)))
    table = read_scores(tmp_path)
    said = {item.what.rsplit(" ", 1)[-1]: item.count for item in table.omissions if "no known" in item.what}
    assert said == {".txt": 2, "empty": 1, ".json": 1, ".jsonl": 1, ".bin": 1}


def test_a_folder_without_scores(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UnknownFormat, match="no scores in there"):
        read_scores(tmp_path)
    with pytest.raises(StagewiseError, match="no such file or folder"):
        read_scores(tmp_path / "absent")
    with pytest.raises(StagewiseError, match="no paths"):
        read_scores([])


def test_empty_file(tmp_path):
    (tmp_path / "a.json").touch()
    with pytest.raises(StagewiseError, match=r"a\.json: empty file"):
        read_scores(tmp_path / "a.json")


def test_truncated_json(tmp_path):
    (tmp_path / "ok.json").write_bytes(result())
    (tmp_path / "r.json").write_bytes(result()[:60])
    with pytest.raises(StagewiseError, match=r"r\.json: broken JSON"):
        read_scores(tmp_path)
    table = read_scores(tmp_path, drop_bad=True)
    assert len(table) == 1
    assert any(item.what.startswith("broken file") for item in table.omissions)


def test_nan_is_dropped_and_counted(tmp_path):
    (tmp_path / "r.json").write_bytes(result(results={"piqa": {"acc": 0.5}, "sciq": {"acc": float("nan")}}))
    table = read_scores(tmp_path / "r.json")
    assert table.frame["task"].tolist() == ["piqa"]
    assert [item.count for item in table.omissions if "NaN" in item.what] == [1]


@pytest.mark.parametrize("score", [1.7, float("inf"), -0.2])
def test_scores_out_of_range(tmp_path, score):
    (tmp_path / "r.json").write_bytes(result(score))
    with pytest.raises(BadScores) as caught:
        read_scores(tmp_path / "r.json")
    assert caught.value.problems["column"].tolist() == ["score"]


def test_negative_compute_and_duplicate_keys(tmp_path):
    rows = [ROW | {"params": 1e9, "tokens": -1.0}, ROW | {"model": "n"}, ROW | {"model": "n", "score": 0.6}]
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(BadScores) as caught:
        read_scores(tmp_path / "t.csv")
    text = str(caught.value)
    assert "tokens" in text and "duplicate key" in text


def test_a_giant_line_is_refused_from_its_head(tmp_path):
    for name, start in (("a.json", b'{"results": "'), ("b.csv", b"model,task,"), ("c.txt", b"x")):
        with open(tmp_path / name, "wb") as handle:
            handle.write(start + b"x" * (2 << 20))
            handle.truncate(1 << 30)  # the rest is a hole: one line of 1 GiB
        with pytest.raises(StagewiseError):
            read_scores(tmp_path / name)


def test_giant_json_says_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(candidate, "JSON_LIMIT", 100)
    (tmp_path / "r.json").write_bytes(result())
    with pytest.raises(StagewiseError, match="was not loaded"):
        read_scores(tmp_path / "r.json")


def test_progress(tmp_path):
    (tmp_path / "r.json").write_bytes(result())
    (tmp_path / "s.txt").write_text("x")
    seen = []
    read_scores(tmp_path, progress=lambda *call: seen.append(call))
    assert [call[:2] for call in seen] == [(1, 2), (2, 2)]


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(10**9), 10**9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "results",
                    "versions",
                    "config",
                    "n-shot",
                    "configs",
                    "eval_metrics",
                    "icl",
                    "main",
                    "piqa",
                    "acc,none",
                    "hyperparameters",
                    "table_results",
                    "model_args",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=_JSON, drop_bad=st.booleans())
def test_any_json_gives_a_table_or_one_clear_error(tmp_path, document, drop_bad):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(document))
    try:
        table = read_scores(path, drop_bad=drop_bad)
    except StagewiseError as error:
        assert str(error)
    else:
        assert len(table) > 0


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400))
def test_any_bytes_give_a_table_or_one_clear_error(tmp_path, content):
    path = tmp_path / "x"
    for start in (b"", b"PAR1", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"model,task,metric,score,source\n", b"{"):
        path.write_bytes(start + content)
        try:
            read_scores(path)
        except StagewiseError as error:
            assert str(error)
