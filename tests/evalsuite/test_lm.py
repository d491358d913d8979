"""lm-eval sees our scorer as it sees its own model: the same requests, the same answers."""

import json
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("lm_eval")

import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from evalsuite.lm import ScorerLM
from evalsuite.scorer import Scorer
from scaling.errors import StagewiseError
from tests.evalsuite.tiny import tiny_llama, tiny_tokenizer
from tests.train.runs import ranks

SHOTS = "Question: What is the colour of the sky? Answer: blue\n\nQuestion: And of the sea? Answer: green\n\n"


def ask(context: str, continuation: str, task: str | None = "t", doc: int | None = 0, i: int = 0) -> Instance:
    return Instance("loglikelihood", {}, (context, continuation), i, (task, doc, 1))


def questions(task: str, prefix: str = "") -> list[Instance]:
    texts = [
        ("The cat sat on the", [" mat", " door", " farmer who owns three horses"]),
        ("12 + 30 =", [" 42", " 41"]),
        ("ends with blanks  ", ["mat", "dog"]),
        ("", ["The cat", "<|endoftext|>The dog"]),
        ("unicode é 漢字 🙂", [" 漢", "é", " e\u0301"]),
        ("long " * 120, [" the end of a long text", " no"]),
        ("<|endoftext|>begins with the token itself", [" so", " or"]),
    ]
    return [
        ask(prefix + context if context else "", choice, task, doc, i)
        for doc, (context, choices) in enumerate(texts)
        for i, choice in enumerate(choices)
    ]


@pytest.fixture(scope="module")
def model():
    return tiny_llama(length=128)


@pytest.fixture(scope="module")
def oracle(model):
    return HFLM(pretrained=model, tokenizer=tiny_tokenizer(), batch_size=1)


@pytest.fixture
def lm(model):
    return ScorerLM(Scorer(model, tiny_tokenizer()))


def agree(ours, theirs) -> None:
    np.testing.assert_allclose([ll for ll, _ in ours], [ll for ll, _ in theirs], rtol=1e-6, atol=1e-5)
    assert [best for _, best in ours] == [best for _, best in theirs]


def test_loglikelihood(lm, oracle):
    """Oracle: lm-eval's HFLM, batch size 1: trailing blanks, empty contexts, unicode, truncation, a text that
    begins with the first token, solved examples common to a task; tasks and documents in any order."""
    requests = [*questions("a"), *questions("b", SHOTS)]
    requests += [ask("no task", " and no document", None, None), ask("no task", " at all", None, None)]
    order = np.random.default_rng(0).permutation(len(requests))
    shuffled = [requests[i] for i in order]
    agree(lm.loglikelihood(shuffled), oracle.loglikelihood(shuffled, disable_tqdm=True))


def test_documents_share_rows(lm, monkeypatch):
    """The requests of one document are one owner, and what a task begins with is read once."""
    seen = []
    score = lm.scorer.loglikelihoods

    def spy(asked, **options):
        result = score(asked, **options)
        seen.extend((plan, asked) for plan in asked.plans.values())
        return result

    monkeypatch.setattr(lm.scorer, "loglikelihoods", spy)
    lm.loglikelihood(
        [ask(SHOTS + f"Question: {i}? Answer:", f" {c}", "t", i) for i in range(6) for c in "abc"]
    )
    plan, asked = seen[0]
    assert asked.owner.tolist() == [i // 3 for i in range(18)]
    shots = len(tiny_tokenizer()(SHOTS)["input_ids"])
    assert len(plan.prefix) >= shots - 1
    assert plan.read < plan.tokens / 5


def test_tokenised_once(lm, monkeypatch):
    """Asked again after the weights changed, nothing is tokenised, and the answers are of the new weights."""
    model = tiny_llama(1, length=128)
    lm = ScorerLM(Scorer(model, tiny_tokenizer()))
    first = lm.loglikelihood(questions("a"))
    model.load_state_dict(tiny_llama(2, length=128).state_dict())
    monkeypatch.setattr(type(lm.scorer.encoder), "pairs", None)
    second = lm.loglikelihood(questions("a"))
    monkeypatch.undo()
    assert first != second
    agree(second, ScorerLM(Scorer(tiny_llama(2, length=128), tiny_tokenizer())).loglikelihood(questions("a")))


def test_rolling(lm, oracle):
    """Oracle: HFLM: short, empty, and longer than two windows of the model."""
    texts = [
        "The cat sat on the mat.",
        "",
        " blanks ",
        "The birds fly south in winter. " * 30,
        "<|endoftext|>x",
    ]
    requests = [
        Instance("loglikelihood_rolling", {}, (text,), 0, ("t", i, 1)) for i, text in enumerate(texts)
    ]
    theirs = oracle.loglikelihood_rolling(requests, disable_tqdm=True)
    np.testing.assert_allclose(lm.loglikelihood_rolling(requests), theirs, rtol=1e-6)


def test_generation(lm, oracle):
    """Oracle: HFLM itself; training mode and random state are as before."""
    request = Instance(
        "generate_until", {}, ("The cat", {"until": ["\n"], "max_gen_toks": 8}), 0, ("t", 0, 1)
    )
    state = torch.random.get_rng_state()
    lm.scorer.model.train()
    written = lm.generate_until([request])
    assert lm.scorer.model.training
    lm.scorer.model.eval()
    assert torch.equal(state, torch.random.get_rng_state())
    assert written == oracle.generate_until([request], disable_tqdm=True)


class Logits(nn.Module):
    def __init__(self, vocabulary: int, value: float = 0.0):
        super().__init__()
        self.table = nn.Embedding(vocabulary, vocabulary)
        self.value = value

    def forward(self, tokens):
        return self.table(tokens) + self.value


def test_who_cannot_write_says_so():
    lm = ScorerLM(Scorer(Logits(400), tiny_tokenizer(), max_length=64))
    request = Instance("generate_until", {}, ("The cat", {"until": ["\n"]}), 0, ("gsm8k", 3, 1))
    assert not lm.generates
    with pytest.raises(StagewiseError, match=r"task gsm8k, document 3: wants .* Logits .* bits per byte"):
        lm.generate_until([request])


def test_bad_requests_are_named():
    tokenizer = tiny_tokenizer()
    lm = ScorerLM(Scorer(Logits(400), tokenizer, max_length=8))
    with pytest.raises(StagewiseError, match="task t, document 5: the answer '' is no token"):
        lm.loglikelihood([ask("The cat", " sat"), ask("a", "", doc=5)])
    with pytest.raises(StagewiseError, match=r"task t, document 5: .* tokens, valid is 1 to 8"):
        lm.loglikelihood([ask("a", " zqxj" * 9, doc=5)])
    with pytest.raises(StagewiseError, match=r"task t, document 2: the tokenizer gives the id .* 0 to 299"):
        ScorerLM(Scorer(Logits(300), tokenizer, max_length=64)).loglikelihood(
            [ask("z", "q"), ask("The cat", " the farmer who owns", doc=2)]
        )
    with pytest.raises(StagewiseError, match="task t, document 0: got a log-likelihood of nan"):
        ScorerLM(Scorer(Logits(400, np.nan), tokenizer, max_length=64)).loglikelihood([ask("a", " b")])


def test_cache_hook(lm):
    """lm-eval's cache gets every answer under the request's own arguments."""
    kept = {}
    hook = SimpleNamespace(add_partial=lambda kind, request, answer: kept.update({(kind, request): answer}))
    lm.set_cache_hook(hook)
    requests = questions("a")
    found = lm.loglikelihood(requests)
    text = Instance("loglikelihood_rolling", {}, ("The cat",), 0, ("t", 0, 1))
    rolling = lm.loglikelihood_rolling([text])
    assert kept == {
        ("loglikelihood", one.args): answer for one, answer in zip(requests, found, strict=True)
    } | {("loglikelihood_rolling", ("The cat",)): rolling[0]}


def evaluated(pipe: Any, folder: Path) -> str:
    """All that lm-eval says of the task in a folder, from this process or its ranks; a job."""
    if pipe is not None:
        torch.distributed.init_process_group("gloo")
    lm = ScorerLM(Scorer(tiny_llama(length=128), tiny_tokenizer(), budget=64))
    assert (lm.rank, lm.world_size, lm.scorer.ranks.size) == (0, 1, 1 if pipe is None else 2)
    tasks = TaskManager(include_path=str(folder), include_defaults=False).load(["made"])
    found = lm_eval.evaluate(lm=lm, task_dict=tasks)
    samples = [[one["doc_id"], one["filtered_resps"]] for one in found["samples"]["made"]]
    return json.dumps([found["results"], samples])


def test_two_ranks(tmp_path):
    """Oracle: one process. Each of two gloo ranks gets the whole result of `evaluate`, to the bit."""
    lines = [
        f'{{"q": "The number {i} is", "c": ["odd", "even", "the largest number"], "g": {i % 3}}}'
        for i in range(9)
    ]
    (tmp_path / "made.jsonl").write_text("\n".join(lines))
    (tmp_path / "made.yaml").write_text(
        textwrap.dedent(f"""\
            task: made
            dataset_path: json
            dataset_kwargs: {{cache_dir: {tmp_path}/cache, data_files: {{test: {tmp_path}/made.jsonl}}}}
            test_split: test
            output_type: multiple_choice
            doc_to_text: q
            doc_to_choice: c
            doc_to_target: g
            num_fewshot: 0
            metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
        """)
    )
    ends = ranks(2, evaluated, tmp_path)
    assert [(one.code, one.error) for one in ends] == [(0, "")] * 2
    assert ends[0].value == ends[1].value == evaluated(None, tmp_path)
