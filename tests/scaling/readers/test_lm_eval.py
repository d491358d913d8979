"""lm-evaluation-harness results, before and since 0.4."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scaling.errors import StagewiseError
from scaling.readers import read_scores


def old_results(
    results: dict, *, model_args="pretrained=EleutherAI/pythia-v1.1-70m,revision=step1000", shots=0, **config
):
    return {
        "results": results,
        "versions": dict.fromkeys(results, 0),
        "config": {"model": "hf-causal", "model_args": model_args, "num_fewshot": shots, "limit": None}
        | config,
    }


def write(path: Path, document) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


PIQA = {"piqa": {"acc": 0.6, "acc_stderr": 0.011, "acc_norm": 0.61, "acc_norm_stderr": 0.012}}


def test_old_results(tmp_path):
    frame = read_scores(write(tmp_path / "any name.txt", old_results(PIQA))).frame
    assert list(frame["metric"]) == ["acc", "acc_norm"]
    assert list(frame["score"]) == [0.6, 0.61]
    assert list(frame["stderr"]) == [0.011, 0.012]
    row = frame.iloc[0]
    assert (row["source"], row["family"], row["model"]) == ("pythia", "pythia-v1", "pythia-70m@v1")
    assert (row["step"], row["shots"], row["n_items"]) == (1000, 0, 1838)
    # Oracle: N by the paper's table, 2,097,152 tokens a step.
    assert row["flops"] == 6 * 70_426_624 * 1000 * 2_097_152


@pytest.mark.parametrize(
    "pretrained, step, tokens",
    [
        ("pythia-v1.1-70m-0.25MtokBS", 104_000, 104_000 * 262_144),
        ("pythia-v1.1-160m-0.5MtokBS", 12_000, 12_000 * 524_288),
        ("pythia-v1.1-1.4b-1MtokBS", 6_000, 6_000 * 1_048_576),
        ("pythia-v1.1-12b", 143_000, 299_892_736_000),
        ("pythia-v1.1-12b", 0, 0),
    ],
)
def test_tokens_per_step_follow_the_variant(tmp_path, pretrained, step, tokens):
    arguments = f"use_accelerate=True,pretrained=EleutherAI/{pretrained},revision=step{step}"
    frame = read_scores(write(tmp_path / "x.json", old_results(PIQA, model_args=arguments))).frame
    assert frame["tokens"].iloc[0] == tokens
    assert (frame["flops"].iloc[0] == 0) == (step == 0)


def test_neox_configuration_and_v0_batches(tmp_path):
    arguments = {
        "iteration": 1500,
        "load": "/some/ckpts/125M_new/",
        "eval_results_prefix": "x/125M-0shot-global_step1500",
    }
    arguments |= {f"k{i}": None for i in range(150)}
    frame = read_scores(
        write(tmp_path / "x.json", old_results(PIQA, model_args=arguments, model="neox"))
    ).frame
    row = frame.iloc[0]
    assert (row["model"], row["step"], row["tokens"]) == ("pythia-160m@v0", 1500, 1500 * 4_194_304)
    # A staged folder says nothing; then the prefix of the results does.
    arguments |= {
        "load": "/some/staged_model",
        "eval_results_prefix": "/x/13B_deduped_new-5shot-global_step3000",
    }
    frame = read_scores(
        write(tmp_path / "x.json", old_results(PIQA, model_args=arguments, model="neox"))
    ).frame
    assert frame["model"].iloc[0] == "pythia-12b-deduped@v0"


def test_misfiled_zero_shot_runs_are_dropped_and_counted(tmp_path):
    more = PIQA | {"sciq": {"acc": 0.5, "acc_stderr": 0.01}}
    write(tmp_path / "zero-shot" / "a.json", old_results(more))
    # The re-run differs in the last digits; its config says zero-shot, its folder five-shot.
    again = {"piqa": {"acc": 0.6005, "acc_norm": 0.61}, "logiqa": {"acc": 0.2}}
    write(tmp_path / "five-shot" / "a.json", old_results(again))
    write(tmp_path / "five-shot" / "b.json", old_results({"piqa": {"acc": 0.65}}, shots=5))
    table = read_scores(tmp_path)
    zero = table.frame[table.frame["shots"] == 0].set_index(["task", "metric"])["score"]
    assert zero["piqa", "acc"] == 0.6
    assert zero["logiqa", "acc"] == 0.2  # nobody else measured this one
    said = {item.what: item.count for item in table.omissions}
    assert (
        said["file name or folder says 5-shot, its config 0-shot: config trusted (re-runs dropped below)"]
        == 1
    )
    assert said["copy of a score already read (same key, same score)"] == 1
    assert sum(count for what, count in said.items() if what.startswith("re-run in a misnamed file")) == 1


def test_interventions_are_variants(tmp_path):
    arguments = "pretrained=EleutherAI/intervention-pythia-v1.1-1.4b-deduped-long,revision=step143000"
    row = read_scores(write(tmp_path / "x.json", old_results(PIQA, model_args=arguments))).frame.iloc[0]
    assert (row["model"], row["variant"]) == ("pythia-1.4b-deduped@v1", "intervention-long")


def test_unknown_model_is_kept_without_compute_and_counted(tmp_path):
    table = read_scores(write(tmp_path / "x.json", old_results(PIQA, model_args="pretrained=me/mine")))
    assert table.frame["flops"].isna().all()
    assert table.frame["model"].iloc[0] == "me/mine" and table.frame["source"].iloc[0] == "lm-eval"
    (said,) = [item for item in table.omissions if "without compute" in item.what]
    assert said.count == 2


def test_squad_2_percent_becomes_a_fraction(tmp_path):
    document = old_results({"squad2": {"f1": 24.0, "exact": 16.5}, "drop": {"f1": 0.13}})
    frame = read_scores(write(tmp_path / "x.json", document)).frame.set_index(["task", "metric"])
    assert frame.loc[("squad2", "f1"), "score"] == pytest.approx(0.24)
    assert frame.loc[("drop", "f1"), "score"] == 0.13


def test_prompt_collection_results_are_counted(tmp_path):
    write(tmp_path / "a.json", old_results(PIQA))
    write(
        tmp_path / "b.json",
        {"results": [{"task_name": "w"}], "versions": {}, "config": {}, "table_results": {}},
    )
    assert any(
        "prompt-collection" in item.what and item.count == 1 for item in read_scores(tmp_path).omissions
    )


def new_results(**changes) -> dict:
    return {
        "results": {
            "arc_easy": {"alias": "arc_easy", "acc,none": 0.4, "acc_stderr,none": 0.01, "sample_len": 2376},
            "gsm8k": {
                "exact_match,strict-match": 0.1,
                "exact_match_stderr,strict-match": 0.02,
                "exact_match,flexible-extract": 0.2,
                "exact_match_stderr,flexible-extract": "N/A",
            },
            "a_group": {"acc,none": 0.3, "alias": " - a_group"},
        },
        "configs": {},
        "versions": {"arc_easy": 1.0},
        "n-shot": {"arc_easy": 25, "gsm8k": 5},
        "n-samples": {"arc_easy": {"original": 2376, "effective": 100}},
        "config": {
            "model": "hf",
            "model_args": {"pretrained": "me/m", "revision": "step20"},
            "model_num_parameters": 7,
        },
        "model_name": "me/m",
    } | changes


def test_new_results(tmp_path):
    table = read_scores(write(tmp_path / "results.json", new_results()))
    frame = table.frame.set_index(["task", "metric"])
    row = frame.loc[("arc_easy", "acc")]
    assert (row["score"], row["stderr"], row["shots"], row["n_items"]) == (0.4, 0.01, 25, 100)
    assert (row["model"], row["step"], row["params"]) == ("me/m", 20, 7)
    assert frame.loc[("gsm8k", "exact_match,strict-match"), "stderr"] == 0.02
    assert frame.loc[("gsm8k", "exact_match,flexible-extract"), "score"] == 0.2
    assert (
        frame.loc[("gsm8k", "exact_match,flexible-extract"), "stderr"]
        != frame.loc[("gsm8k", "exact_match,strict-match"), "stderr"]
    )
    assert frame.loc[("a_group", "acc"), "shots"] is not None
    assert "sample_len" not in table.frame["metric"].tolist()


def test_new_results_with_string_arguments(tmp_path):
    config = {"model": "hf", "model_args": "pretrained=EleutherAI/pythia-160m,revision=step512,dtype=float"}
    row = read_scores(write(tmp_path / "r.json", new_results(config=config))).frame.iloc[0]
    assert (row["model"], row["step"], row["tokens"]) == ("pythia-160m@v1", 512, 512 * 2_097_152)


def test_a_metric_that_only_the_task_name_says(tmp_path):
    document = new_results(results={"truthfulqa_mc2": {"acc,none": 0.4}, "sciq": {"acc,none": 0.9}})
    frame = read_scores(write(tmp_path / "r.json", document)).frame
    assert list(zip(frame["task"], frame["metric"], strict=True)) == [("sciq", "acc"), ("truthfulqa", "mc2")]


def test_samples_are_counted_not_read(tmp_path):
    write(tmp_path / "results.json", new_results())
    line = json.dumps({"doc_id": 0, "doc": {"q": "x"}, "target": "0", "resps": [], "filtered_resps": []})
    (tmp_path / "samples_gsm8k.jsonl").write_text("\n".join([line] * 3))
    (said,) = [item for item in read_scores(tmp_path).omissions if "per-item samples" in item.what]
    assert said.count == 1


def test_a_result_file_of_another_shape_says_so(tmp_path):
    broken = old_results(PIQA) | {"config": "none"}
    with pytest.raises(StagewiseError, match=r"x\.json: recognised, but not as expected"):
        read_scores(write(tmp_path / "x.json", broken))


def test_a_real_result_folder(tmp_path, monkeypatch):
    """Oracle: what lm_eval itself writes, as its command does, of its dummy model on a local task."""
    lm_eval = pytest.importorskip("lm_eval")
    import datasets
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    questions = [{"q": f"Is {i} even?", "choices": ["yes", "no"], "gold": i % 2} for i in range(12)]
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(question) for question in questions))
    task = f"""task: toy_parity
dataset_path: json
dataset_kwargs:
  data_files:
    test: {tmp_path}/q.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: q
doc_to_choice: choices
doc_to_target: gold
metric_list:
  - metric: acc
  - metric: acc_norm
"""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "toy_parity.yaml").write_text(task)
    out = tmp_path / "out"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda _: None)  # what pip and the compiler say
    tracker = EvaluationTracker(output_path=str(out))
    tasks = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    found = lm_eval.simple_evaluate(
        "dummy", tasks=["toy_parity"], num_fewshot=0, task_manager=tasks, evaluation_tracker=tracker,
        log_samples=True,
    )  # fmt: skip
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    tracker.save_results_samples(task_name="toy_parity", samples=samples["toy_parity"])
    (written,) = out.rglob("results_*.json")
    expected = json.loads(written.read_text())["results"]["toy_parity"]
    table = read_scores(out)
    frame = table.frame.set_index("metric")
    assert set(frame.index) == {"acc", "acc_norm"}
    for metric in ("acc", "acc_norm"):
        assert frame.loc[metric, "score"] == expected[f"{metric},none"]
        assert frame.loc[metric, "stderr"] == expected[f"{metric}_stderr,none"]
        assert (frame.loc[metric, "shots"], frame.loc[metric, "n_items"]) == (0, 12)
    assert any("per-item samples" in item.what and item.count == 1 for item in table.omissions)
