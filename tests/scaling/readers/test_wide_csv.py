"""Wide CSV files with a mapping, shipped and one's own."""

from __future__ import annotations

import pytest

from scaling.errors import StagewiseError
from scaling.readers import read_scores
from scaling.readers.wide_csv import read_mapping, shipped_mappings

V1 = (
    "T,Model,Average ⬆️,ARC,HellaSwag,MMLU,TruthfulQA,Winogrande,GSM8K,Type,Architecture,Precision,"
    "#Params (B),Model sha\n"
    "x,me/one,50.0,60.0,80.5,26.0,40.0,70.0,1.5,🟢 pretrained,LlamaForCausalLM,float16,7,0a23456789\n"
    "x,me/one,50.0,61.0,80.5,26.0,40.0,70.0,1.5,🟢 pretrained,LlamaForCausalLM,4bit,0,0a23456789\n"
)
V2 = (
    "eval_name,fullname,Precision,Type,Architecture,Model sha,#Params (B),Average ⬆️,IFEval Raw,IFEval,"
    "BBH Raw,BBH,MATH Lvl 5 Raw,MATH Lvl 5,GPQA Raw,GPQA,MUSR Raw,MUSR,MMLU-PRO Raw,MMLU-PRO\n"
    "e,me/two,float16,💬 chat models,LlamaForCausalLM,abcdefabcdef,7,30,0.33,33.0,"
    "0.36,10.0,0.01,0.8,0.26,1.2,0.4,3.0,0.11,1.5\n"
)
OBS = (
    "Model,Model Family,Model Size (B),Pretraining Data Size (T),FLOPs (1E21),MMLU,ARC-C,HellaSwag,"
    "Winograd,TruthfulQA,GSM8K,XWinograd,HumanEval\n"
    "me/m,Fam,7.0,2.0,84.0,0.43,0.53,0.77,0.74,,0.14,0.75,0.12\n"
)
OBS_MORE = (
    "Model,parsinlu_qa_2_acc,word_unscrambling_2_exact_match,arithmetic_3ds_2_acc\nme/m,0.25,0.09,0.86\n"
)


def test_leaderboard_v1_is_percent_and_v2_is_raw_fraction(tmp_path):
    (tmp_path / "v1.csv").write_text(V1)
    (tmp_path / "v2.csv").write_text(V2)
    frame = read_scores(tmp_path).frame
    assert frame["score"].between(0, 1).all()
    one = frame[frame["variant"] == "v1|pretrained|float16|0a234567"].set_index("task")
    assert one.loc["arc_challenge", ["score", "metric", "shots"]].tolist() == [0.60, "acc_norm", 25]
    assert one.loc["hellaswag", "score"] == pytest.approx(0.805)
    two = frame[frame["model"] == "me/two"].set_index("task")
    assert two.loc["leaderboard_bbh", "score"] == 0.36  # not 10.0, nor 0.10
    assert not frame["task"].str.contains("Average").any()
    assert frame[frame["variant"].str.contains("4bit")]["params"].isna().all()  # 0 parameters means unknown
    assert frame["flops"].isna().all()


def test_obsscaling_and_compute_across_its_tables(tmp_path):
    (tmp_path / "a.csv").write_text(OBS)
    (tmp_path / "b.csv").write_text(OBS_MORE)
    (tmp_path / "sub.csv").write_text(OBS)
    table = read_scores(tmp_path)
    frame = table.frame.set_index("task")
    assert (frame["flops"] == 84e21).all() and (frame["family"] == "Fam").all()
    assert frame.loc["mmlu_mc", "shots"] == 5
    assert frame.loc["word_unscrambling", ["metric", "shots"]].tolist() == ["exact_match", 2]
    assert "truthfulqa" not in frame.index
    said = {item.what: item.count for item in table.omissions}
    assert said["copy of a score already read (same key, same score)"] == 7
    assert said["empty cells (not measured)"] == 1


def test_own_mapping(tmp_path):
    (tmp_path / "mine.csv").write_text("run,billions,tok,hella %,note\nr1,1.5,3e10,45.5,x\nr2,0,3e10,?,y\n")
    (tmp_path / "mine.yaml").write_text(
        "name: my sheet\nsource: mine\nwhen: [run, hella %]\n"
        "columns:\n  model: run\n  tokens: tok\n"
        "  params: {column: billions, times: 1.0e+9, zero_is_missing: true}\n"
        "constants: {variant: a}\n"
        "scores: [{column: hella %, task: hellaswag, metric: acc_norm, shots: 10, times: 0.01}]\n"
    )
    table = read_scores(tmp_path / "mine.csv", mapping=tmp_path / "mine.yaml")
    (row,) = table.frame.to_dict("records")
    assert row["score"] == pytest.approx(0.455)
    assert (row["source"], row["model"], row["variant"], row["flops"]) == (
        "mine",
        "r1",
        "a",
        6 * 1.5e9 * 3e10,
    )
    assert any(item.what == "cells that are no number" and item.count == 1 for item in table.omissions)


@pytest.mark.parametrize(
    "text, said",
    [
        ("name: x\nsource: y\n", "missing key"),
        ("name: x\nsource: y\nwhen: [a]\ncolour: red\ncolumns: {model: a}\n", "colour"),
        ("name: x\nsource: y\nwhen: [a]\ncolumns: {size: a}\n", "model"),
        ("name: x\nsource: y\nwhen: [a]\ncolumns: {model: a, size: b}\n", "size"),
        (
            "name: x\nsource: y\nwhen: [a]\ncolumns: {model: a}\nscores: [{task: b}]\n",
            "`column` or `pattern`",
        ),
        ("name: x\nsource: y\nwhen: [a]\ncolumns: {model: a}\nscores: [{pattern: '('}]\n", "pattern"),
        ("just text", "holds keys"),
        ("a: [", "YAML"),
    ],
)
def test_a_bad_mapping_is_one_clear_error(tmp_path, text, said):
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(StagewiseError, match=said):
        read_mapping(tmp_path / "m.yaml")


def test_shipped_mappings_parse_and_name_their_source():
    assert len(shipped_mappings()) >= 10
    for mapping in shipped_mappings():
        assert mapping.reference, mapping.name
