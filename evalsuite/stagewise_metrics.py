"""Bits per byte of right answers, for lm-eval.

`evalsuite export` puts a copy of this file beside the tasks it writes, and they name its function. It is the
same for every suite: what a suite holds is data, in the JSONL files, and never becomes code.
"""

import math


def process_results(doc, results):
    """The metrics of one item, from the one answer that was asked for.

    With l = ln p(answer | context) and B the answer's UTF-8 bytes without one leading space:

    | metric | of an item | lm-eval's aggregation |
    |---|---|---|
    | bpb_gold | -l / (B ln 2) | `mean`, over items |
    | bpb_gold_bytes | the pair l, B | `bits_per_byte`: -sum(l) / (sum(B) ln 2) |
    | acc | 1 where each token of the answer is the likeliest, else 0; free answers only | `mean` |

    Args:
        doc: a row of the data, with `gold_bytes`; with `gold`, the index of the right choice, unless the
            answer is free.
        results: one pair: l in nats, and whether greedy decoding gives the answer.
    """
    log_likelihood, greedy = results[0]
    size = doc["gold_bytes"]
    metrics = {
        "bpb_gold": -log_likelihood / (size * math.log(2)),
        "bpb_gold_bytes": (log_likelihood, size),
    }
    # Where there are choices, `acc` is the name of something else: the right one is the likeliest.
    return metrics if "gold" in doc else metrics | {"acc": int(greedy)}
