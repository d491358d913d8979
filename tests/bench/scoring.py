"""Likelihood scoring: CPU time and agreement against lm-eval's HFLM, and where our own time goes."""

from __future__ import annotations

import cProfile
import pstats
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from evalsuite.engine import Mode
from evalsuite.likelihoods import Likelihoods
from evalsuite.requests import TaskRequests
from evalsuite.scorer import Scorer
from evalsuite.tasks import Task, TaskFolder
from tests.study.real import shared

# Parameters, vocabulary, hidden size, layers: the work of the head weighs unlike in unlike vocabularies.
SHAPES = (("5M", 8192, 192, 4), ("13M", 8192, 320, 6), ("5M", 32768, 64, 6), ("13M", 32768, 160, 6))
ZERO_SHOT = ("arc_easy", "arc_challenge", "piqa", "openbookqa", "lambada_openai")
BATCHES = (1, 16, 64)  # of HFLM; its best counts


def at_hand() -> dict[str, Task]:
    """The tasks of the comparison, by name."""
    folder = shared() / "tasks"
    if not folder.is_dir():
        raise SystemExit(f"{folder}: not there; this benchmark needs the real items (STAGEWISE_SHARED)")
    there = TaskFolder.open(folder)
    return {name: there.task(name) for name in ZERO_SHOT}


def tokenizer_of(tasks: list[Task], vocabulary: int) -> Any:
    """Byte-level BPE trained on the text of the tasks; it may find fewer tokens than asked for."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    bpe.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    text = (f"{item.context} {choice}" for task in tasks for item in task.items for choice in item.choices)
    bpe.train_from_iterator(text, trainer)
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=end, eos_token=end)


def model_of(vocabulary: int, width: int, layers: int, seed: int) -> Any:
    """A Llama of that shape; weights large enough that its answers differ."""
    torch.manual_seed(seed)
    heads = max(width // 64, 1)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=width * 8 // 3, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=2048,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(3)
    return model


def hflm(model: Any, tokenizer: Any, requests: list[tuple[str, str]], batch: int) -> tuple[np.ndarray, float]:
    """(log-likelihood, greedy) of each request, and CPU seconds."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(model, tokenizer=tokenizer, batch_size=batch, device="cpu")
    asked = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(requests)]
    start = time.process_time()
    found = lm.loglikelihood(asked, disable_tqdm=True)
    return np.array(found, dtype=float), time.process_time() - start


def texts(task: Task, shots: int) -> list[tuple[str, str]]:
    """The requests of a task as lm-eval would put them."""
    before = task.prompt(shots)
    return [
        (before + item.context, task.delimiter + choice)
        for item in task.items
        for choice in item.choices or (item.answer,)
    ]


def measured(
    model: Any, tokenizer: Any, tasks: list[Task], shots: int, theirs: dict, modes: list[Mode] | None = None
) -> list[dict[str, Any]]:
    """Our CPU seconds the first and the second time, HFLM's, and how far the numbers are apart, by task.

    `theirs` keeps what HFLM said of a task and its shots, for another of our modes.
    """
    scorer = Scorer(model, tokenizer, modes=modes)
    start = time.process_time()
    asked = []
    prepared = []
    for task in tasks:
        asked.append(scorer.prepare(task, shots))
        prepared.append(time.process_time() - start)
        start = time.process_time()
    scorer.check(asked)
    checked = (time.process_time() - start) / len(tasks)
    rows = []
    for task, one, before in zip(tasks, asked, prepared, strict=True):
        start = time.process_time()
        scorer.score(one)
        first = time.process_time() - start + before + checked
        start = time.process_time()
        found = scorer.score(one)
        again = time.process_time() - start
        if (task.name, shots) not in theirs:
            asking = texts(task, shots)
            theirs[task.name, shots] = [hflm(model, tokenizer, asking, batch) for batch in BATCHES]
        runs = theirs[task.name, shots]
        seconds = [cpu for _, cpu in runs]
        best = int(np.argmin(seconds))
        rows.append(
            {
                "task": task.name, "shots": shots, "mode": str(scorer.parity.mode) if scorer.parity else "",
                "ours_first": first, "ours": again,
                "hflm": seconds[best], "batch": BATCHES[best], "ratio_first": seconds[best] / first,
                "ratio": seconds[best] / again, **agreement(found, one, runs[best][0]),
            }
        )  # fmt: skip
    return rows


def agreement(found: Likelihoods, asked: TaskRequests, theirs: np.ndarray) -> dict[str, Any]:
    """Largest differences of a request, relative and in nats a token; whether every answer is the same."""
    at = asked.requests.owner, asked.column
    gap = np.abs(found.ll[at] - theirs[:, 0])
    count = np.maximum(found.n_choices, 1)
    split = np.split(theirs[:, 0], np.cumsum(count)[:-1])
    ours = [found.ll[i, :n] for i, n in enumerate(count)]
    return {
        "relative": float((gap / np.abs(theirs[:, 0])).max()),
        "per_token": float((gap / found.tokens[at]).max()),
        "same_argmax": all(a.argmax() == b.argmax() for a, b in zip(ours, split, strict=True)),
        "same_greedy": bool((found.greedy[at] == theirs[:, 1].astype(bool)).all()),
    }


def run(seed: int = 0) -> pd.DataFrame:
    """CPU seconds of one thread for 500 items a task; `ratio` is HFLM's best over ours.

    `ours_first` holds tokenising, the check of the fast way and scoring; `ours` is every further checkpoint.
    """
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    tasks = at_hand()
    rows = []
    for size, vocabulary, width, layers in SHAPES:
        tokenizer = tokenizer_of(list(tasks.values()), vocabulary)
        model = model_of(vocabulary, width, layers, seed)
        named = {
            "model": size,
            "vocabulary": vocabulary,
            "params": sum(p.numel() for p in model.parameters()),
        }
        theirs: dict = {}
        frame = pd.DataFrame(measured(model, tokenizer, list(tasks.values()), 0, theirs))
        sums = {name: frame[name].sum() for name in ("ours_first", "ours", "hflm")}
        whole = {
            "task": "all five", "shots": 0, **sums, "ratio_first": sums["hflm"] / sums["ours_first"],
            "ratio": sums["hflm"] / sums["ours"],
        }  # fmt: skip
        few = measured(model, tokenizer, [tasks["arc_easy"]], 5, theirs)
        each = measured(model, tokenizer, [tasks["arc_easy"]], 5, theirs, [Mode(packed=True, head="chunks")])
        rows += [{**named, **row} for row in (*frame.to_dict("records"), whole, *few, *each)]
    return pd.DataFrame(rows)


def harness(seed: int = 0) -> pd.DataFrame:
    """Where the wall time of a second evaluation goes, 5M parameters, and what it calls."""
    logging.disable_progress_bar()
    tasks = list(at_hand().values())
    _, vocabulary, width, layers = SHAPES[0]
    tokenizer = tokenizer_of(tasks, vocabulary)
    model = model_of(vocabulary, width, layers, seed)
    scorer = Scorer(model, tokenizer)
    asked = [scorer.prepare(task, 0) for task in tasks]
    for one in asked:
        scorer.score(one)
    frame = pd.DataFrame([_share(model, scorer, asked)])
    profile = cProfile.Profile()
    profile.enable()
    for one in asked:
        scorer.score(one)
    profile.disable()
    called = {f"{file}:{name}" for file, _, name in pstats.Stats(profile).stats}  # type: ignore[attr-defined]
    words = ("tokeniz", "datasets", "encod", "pack.", "json")
    hits = sorted(name for name in called if any(word in name.lower() for word in words))
    told = f"{len(called)} functions called in a second evaluation; of tokenising or loading data: {hits}"
    print(told, file=sys.stderr)
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(12)
    return frame


def _share(model: Any, scorer: Scorer, asked: list[TaskRequests]) -> dict[str, float]:
    """Wall seconds in the model (its head included), in log-probabilities, and in the rest."""
    import evalsuite.engine as engine

    spent = {"model": 0.0, "log_softmax": 0.0}
    depth = [0]
    begun = [0.0]

    def before(*_: Any) -> None:
        if depth[0] == 0:
            begun[0] = time.perf_counter()
        depth[0] += 1

    def after(*_: Any) -> None:
        depth[0] -= 1
        if depth[0] == 0:
            spent["model"] += time.perf_counter() - begun[0]

    head = model.get_output_embeddings()
    handles = [one.register_forward_pre_hook(before) for one in (model, head)]
    handles += [one.register_forward_hook(after) for one in (model, head)]
    plain = engine._scored

    def timed(*args: Any) -> Any:
        inside = spent["model"]
        start = time.perf_counter()
        found = plain(*args)
        spent["log_softmax"] += time.perf_counter() - start - (spent["model"] - inside)
        return found

    engine._scored = timed
    start = time.perf_counter()
    try:
        for one in asked:
            scorer.score(one)
    finally:
        engine._scored = plain
        for handle in handles:
            handle.remove()
    wall = time.perf_counter() - start
    rest = wall - spent["model"] - spent["log_softmax"]
    return {
        "wall_s": wall, "model": spent["model"] / wall, "log_softmax": spent["log_softmax"] / wall,
        "harness": rest / wall,
    }  # fmt: skip
