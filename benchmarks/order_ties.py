"""How many positions tie when they are ranked on the tempered distribution, on random 7B-sized logits.

    python benchmarks/order_ties.py

Logits are normal draws over Dream's 152,064 entries, as uncertain as an early step (median top-1
probability about 0.07). Ranks every position by its entropy after temperature and top-p, ties by position,
as decoding does, and says how far that order is from left to right. Source: field.md T1.
"""

from __future__ import annotations

import argparse
import json

import torch

from tabom_cli.core import numerics
from tabom_cli.core.data.stats import NEAR_ZERO_NATS, kendall_tau

VOCAB_SIZE = 152_064
SCALE = 3.4
SETTINGS = ((0.1, 0.9), (0.1, None), (1.0, None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--positions", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(arguments.seed)
    shape = (arguments.positions, VOCAB_SIZE)
    logits_NV = SCALE * torch.randn(shape, generator=generator)
    top = numerics.log_probs(logits_NV).max(-1).values.exp().median()
    print(json.dumps({"positions": arguments.positions, "median_top1": round(float(top), 3)}))
    for temperature, top_p in SETTINGS:
        filtered_NV = numerics.filter_top_p_top_k(logits_NV / temperature, top_p, None)
        entropy_N = numerics.entropy(numerics.log_probs(filtered_NV))
        steps = torch.argsort(torch.argsort(entropy_N, stable=True)).tolist()
        figures = {
            "temperature": temperature,
            "top_p": top_p,
            "share_zero": round(float((entropy_N == 0).float().mean()), 4),
            "share_near_zero": round(float((entropy_N <= NEAR_ZERO_NATS).float().mean()), 4),
            "distinct": round(len(set(entropy_N.tolist())) / arguments.positions, 4),
            "kendall_tau": round(kendall_tau(steps) or 0.0, 4),
        }
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
