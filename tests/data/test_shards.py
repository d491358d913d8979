"""Token shards. Oracle: the documents themselves, joined in memory."""

from __future__ import annotations

import errno
import json
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data.shards
from data.errors import DataError
from data.index import Files
from data.shards import ShardWriter, Tokens

DIGEST = "d" * 64


def write(folder, documents, *, domain="prose", size=300, shard=16, **more):
    with ShardWriter(folder, domain, size, shard=shard, **more) as writer:
        for one in documents:
            writer.add(np.asarray(one, dtype=np.int32))
    return writer


documents = st.lists(st.lists(st.integers(0, 299), max_size=30), max_size=12)


@settings(max_examples=60)
@given(documents=documents, shard=st.integers(1, 40), size=st.sampled_from([300, 2**16, 2**16 + 1]))
def test_every_stretch_reads_as_it_was_written(tmp_path_factory, documents, shard, size):
    folder = tmp_path_factory.mktemp("shards")
    writer = write(folder, documents, size=size, shard=shard)
    whole = [i for one in documents for i in [*one, size - 1]]
    tokens = Tokens.open(folder, "prose", size)
    assert (len(tokens), writer.tokens, writer.documents) == (len(whole), len(whole), len(documents))
    for start in range(len(whole) + 1):
        for length in {0, 1, 7, len(whole) - start}:
            if start + length <= len(whole):
                found = tokens.read(start, length)
                assert found.dtype == np.int64 and found.tolist() == whole[start : start + length]
    starts = np.cumsum([0, *(len(one) + 1 for one in documents)])
    assert tokens.starts.tolist() == starts[:-1].tolist()
    names = sorted(one.name for one in folder.glob("*.bin"))
    assert names == [f"prose-{i:05d}.bin" for i in range(-(-len(whole) // shard))]
    assert all(one.stat().st_size <= shard * (2 if size <= 2**16 else 4) for one in folder.glob("*.bin"))
    tokens.verify()


def test_the_widest_ids_of_each_format(tmp_path):
    for size in (2**16, 2**16 + 1, 2**32):
        write(tmp_path, [[0, size - 2]] if size < 2**31 else [], size=size, domain=str(size))
        with ShardWriter(tmp_path, f"more {size}", size) as writer:
            writer.add(np.array([0, size - 1], dtype=np.uint64))
        assert Tokens.open(tmp_path, f"more {size}", size).read(0, 3).tolist() == [0, size - 1, size - 1]


def test_domains_stand_side_by_side(tmp_path):
    names = ["code", "code-00000", "web/docs", "à la carte", ".hidden", "code.starts", "half \ud800"]
    for i, name in enumerate(names):
        write(tmp_path, [[i]], domain=name)
    for i, name in enumerate(names):
        assert Tokens.open(tmp_path, name).read(0, 1)[0] == i
    assert not [one for one in tmp_path.iterdir() if one.is_dir()]


def test_the_same_documents_give_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        write(tmp_path / name, [[1, 2], [3] * 40], digest=DIGEST)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()
    digests = [Tokens.open(tmp_path / name, "prose").digest for name in ("one", "other")]
    assert digests[0] == digests[1]
    write(tmp_path / "third", [[1, 2], [3] * 39 + [4]], digest=DIGEST)
    assert Tokens.open(tmp_path / "third", "prose").digest != digests[0]


def test_a_copy_in_another_process_maps_the_files_itself(tmp_path):
    write(tmp_path, [list(range(200))] * 40, shard=1000)
    tokens = Tokens.open(tmp_path, "prose")
    tokens.read(0, 5000)
    sent = pickle.dumps(tokens)
    assert len(sent) < 1000
    assert pickle.loads(sent).read(0, 5000).tolist() == tokens.read(0, 5000).tolist()


# --- bad input ------------------------------------------------------------------------------------


def test_an_id_beyond_the_vocabulary_is_not_written(tmp_path):
    with ShardWriter(tmp_path, "prose", 300) as writer:
        writer.add([1, 2])
        for bad in (300, -1):
            with pytest.raises(
                DataError, match=rf"'prose': document 1: place 2: id {bad}, the vocabulary has 300"
            ):
                writer.add(np.array([0, 1, bad]))
        for bad in ([0.5], [[1]], ["a"]):
            with pytest.raises(DataError, match="valid is a row of whole numbers"):
                writer.add(bad)
    assert Tokens.open(tmp_path, "prose").read(0, 3).tolist() == [1, 2, 299]


def test_an_id_beyond_the_vocabulary_in_a_file(tmp_path):
    write(tmp_path, [[1] * 60], shard=16)
    ids = np.fromfile(tmp_path / "prose-00002.bin", dtype="<u2")
    ids[5] = 4000
    ids.tofile(tmp_path / "prose-00002.bin")
    tokens = Tokens.open(tmp_path, "prose")
    assert tokens.read(0, 37).max() == 1
    told = r"prose-00002\.bin: token 5: id 4000, the vocabulary has 300 \(valid is 0\.\.299\).*damaged"
    with pytest.raises(DataError, match=told):
        tokens.read(30, 20)
    with pytest.raises(DataError, match=r"prose-00002\.bin: is not what was written"):
        tokens.verify()


@pytest.mark.parametrize(("start", "length"), [(-1, 2), (0, 62), (61, 1), (10, -1)])
def test_places_that_are_not_there(tmp_path, start, length):
    write(tmp_path, [[1] * 60])
    with pytest.raises(DataError, match="there are 61"):
        Tokens.open(tmp_path, "prose").read(start, length)


def test_files_that_are_not_what_the_index_says(tmp_path):
    write(tmp_path, [[1] * 60], shard=16)
    path = tmp_path / "prose-00001.bin"
    content = path.read_bytes()
    for changed in (content[:-1], content + b"\x00", b""):
        path.write_bytes(changed)
        told = rf"prose-00001\.bin: has {len(changed)} bytes, the index says 32; copy it again"
        with pytest.raises(DataError, match=told):
            Tokens.open(tmp_path, "prose")
    path.unlink()
    with pytest.raises(DataError, match=r"prose-00001\.bin: is missing"):
        Tokens.open(tmp_path, "prose")


def test_a_document_longer_than_the_file(tmp_path):
    write(tmp_path, [[1] * 20, [2] * 20])
    path = tmp_path / "prose.starts.npy"
    for starts, told in (
        ([0, 50], "document 1 goes from token 50 to 42, there are 42"),
        ([5, 9], "document 0"),
    ):
        np.save(path, np.array(starts, dtype="<i8"))
        with pytest.raises(DataError, match=told):
            Tokens.open(tmp_path, "prose")
    np.save(path, np.array([0, 20], dtype="<i8"))
    with pytest.raises(DataError, match=r"starts\.npy: is not what was written"):
        Tokens.open(tmp_path, "prose").verify()
    np.save(path, np.array([0], dtype="<i8"))
    with pytest.raises(DataError, match="the index says 2 documents"):
        Tokens.open(tmp_path, "prose")
    path.write_bytes(b"no array")
    with pytest.raises(DataError, match=r"starts\.npy: cannot be read"):
        Tokens.open(tmp_path, "prose")


def test_no_index(tmp_path):
    with pytest.raises(DataError, match=r"missing, so domain 'prose'.*holds no domain"):
        Tokens.open(tmp_path / "nowhere", "prose")
    write(tmp_path, [[1]], domain="code")
    with pytest.raises(DataError, match=r"prose\.index\.json: missing.*it holds code"):
        Tokens.open(tmp_path, "prose")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": 2}, "format 2, this version reads 1"),
        ({"dtype": "uint32"}, r"got dtype 'uint32', valid is uint16 for a vocabulary of 300"),
        ({"tokens": "61"}, "tokens: missing, unknown or of another type"),
        ({"tokens": 61, "extra": 1}, "extra: missing, unknown"),
        ({"tokens": 1000}, "1000 tokens do not fill 4 files"),
        ({"domain": "code"}, "is of domain 'code'"),
        ({"shard": 0}, "out of range"),
    ],
)
def test_an_index_that_is_none(tmp_path, change, told):
    write(tmp_path, [[1] * 60])
    path = tmp_path / "prose.index.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(DataError, match=told):
        Tokens.open(tmp_path, "prose")
    for content in ("{", "[]", '"x"'):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match="prepare the data again"):
            Tokens.open(tmp_path, "prose")


def test_another_tokenizer(tmp_path):
    write(tmp_path, [[1]], digest=DIGEST)
    assert len(Tokens.open(tmp_path, "prose", 300, DIGEST)) == 2
    with pytest.raises(DataError, match="another tokenizer: ids 300, the one in use has 400"):
        Tokens.open(tmp_path, "prose", 400, DIGEST)
    with pytest.raises(DataError, match=r"another tokenizer: digest ddd.*has eee"):
        Tokens.open(tmp_path, "prose", 300, "e" * 64)


def test_what_was_not_finished_is_no_data(tmp_path):
    with pytest.raises(ZeroDivisionError), ShardWriter(tmp_path, "prose", 300, shard=4) as writer:
        writer.add(range(10))
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    killed = ShardWriter(tmp_path, "prose", 300, shard=4)  # never closed, as after a kill
    killed.add(range(10))
    with pytest.raises(DataError, match="was not finished"):
        Tokens.open(tmp_path, "prose")
    write(tmp_path, [[7]])
    assert Tokens.open(tmp_path, "prose").read(0, 2).tolist() == [7, 299]
    killed._drop()


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(data.shards, "_sync", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, [[1, 2, 3]])
    assert not list(tmp_path.iterdir())


def test_a_domain_is_not_written_over(tmp_path):
    write(tmp_path, [[1]])
    with pytest.raises(DataError, match=r"holds domain 'prose' already"):
        write(tmp_path, [[2]])
    assert Tokens.open(tmp_path, "prose").read(0, 1)[0] == 1


@pytest.mark.parametrize("more", [{"size": 0}, {"size": 2**32 + 1}, {"eos": 300}, {"eos": -1}, {"shard": 0}])
def test_arguments_out_of_range(tmp_path, more):
    with pytest.raises(DataError, match="valid are a size of"):
        ShardWriter(tmp_path, "prose", **{"size": 300, **more})


@pytest.mark.parametrize("name", ["", "x" * 201, "é" * 70])
def test_names_that_no_file_can_have(tmp_path, name):
    with pytest.raises(DataError, match=re.escape(f"domain {name[:60]!r}")):
        Files(tmp_path, name)
