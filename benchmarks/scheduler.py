"""Rows per second of the replaced-at-once scheduler against fixed batches, in one run.

    python benchmarks/scheduler.py --rows 96

Prompts of unequal lengths, threshold decoding. The tiny model is used when its weights are there, with
prompts from its own tasks; otherwise the same architecture with random weights and a sharpened head, so
that rows need different numbers of steps. Fixed batches get the same prompts sorted by length, which is
the best case for them: every batch waits for its slowest row and nothing else.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence

import torch

from tabom_cli.assets import tiny_path
from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.decoding.scheduler import DecodeRequest, DecodeResult, decode
from tabom_cli.core.models.base import DiffusionLM
from tabom_cli.core.models.config import ModelConfig
from tabom_cli.core.models.load import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    trained = any(tiny_path().glob("*.safetensors"))
    model = load_model(
        ModelConfig(path="tiny", init="pretrained" if trained else "random", dtype="float32"),
        device=arguments.device,
    )
    rows = task_rows(model, arguments.rows) if trained else random_rows(model, arguments.rows)
    config = DecodeConfig(
        strategy="entropy",
        steps=arguments.max_new_tokens,
        max_new_tokens=arguments.max_new_tokens,
        threshold=arguments.threshold,
        batch_size=arguments.batch_size,
    )
    list(decode(model, rows[: arguments.batch_size], config))
    seconds = {"fixed": 0.0, "replaced": 0.0}
    answers: dict[str, dict[str, DecodeResult]] = {}
    for _ in range(arguments.repeats):
        for name, run in (("fixed", fixed_batches), ("replaced", replaced_at_once)):
            start = time.perf_counter()
            answers[name] = {result.id: result for result in run(model, rows, config)}
            seconds[name] += time.perf_counter() - start
    steps = sorted(result.num_steps for result in answers["replaced"].values())
    same = sum(
        answers["fixed"][key].response_token_ids == result.response_token_ids
        for key, result in answers["replaced"].items()
    )
    rate = {name: arguments.rows * arguments.repeats / value for name, value in seconds.items()}
    print(
        json.dumps(
            {
                "weights": "tiny" if trained else "random, sharpened",
                "device": arguments.device,
                "threads": torch.get_num_threads(),
                "rows": arguments.rows,
                "prompt_lengths": [
                    min(len(row.prompt_token_ids) for row in rows),
                    max(len(row.prompt_token_ids) for row in rows),
                ],
                "steps_min_median_max": [steps[0], steps[len(steps) // 2], steps[-1]],
                "fixed_rows_per_s": round(rate["fixed"], 3),
                "replaced_rows_per_s": round(rate["replaced"], 3),
                "ratio": round(rate["replaced"] / rate["fixed"], 3),
                "equal_answers": f"{same}/{len(rows)}",
            },
            indent=1,
        )
    )


def replaced_at_once(
    model: DiffusionLM, rows: Sequence[DecodeRequest], config: DecodeConfig
) -> list[DecodeResult]:
    """One decode over everything."""
    return list(decode(model, rows, config))


def fixed_batches(
    model: DiffusionLM, rows: Sequence[DecodeRequest], config: DecodeConfig
) -> list[DecodeResult]:
    """One decode per batch of neighbours in length; the next starts when the last row is done."""
    ordered = sorted(rows, key=lambda row: -len(row.prompt_token_ids))
    results: list[DecodeResult] = []
    for start in range(0, len(ordered), config.batch_size):
        results += decode(model, ordered[start : start + config.batch_size], config)
    return results


def task_rows(model: DiffusionLM, count: int) -> list[DecodeRequest]:
    """Problems of all embedded tasks."""
    from tabom_cli.assets.tasks import problems, task_names
    from tabom_cli.core.models.template import render_prompt

    found = problems(task_names(), split="test", num_problems=count, seed=0)
    random.Random(0).shuffle(found)
    return [
        DecodeRequest(
            problem.id,
            tuple(render_prompt(model.tokenizer, problem.prompt, max_length=None)),
            index,
        )
        for index, problem in enumerate(found[:count])
    ]


def random_rows(model: DiffusionLM, count: int) -> list[DecodeRequest]:
    """Random prompts of 8 to 64 tokens, on a head sharpened until certainties spread out."""
    with torch.no_grad():
        model.network.lm_head.weight.mul_(60.0)
    draw = random.Random(0)
    return [
        DecodeRequest(str(n), tuple(draw.randrange(4, 600) for _ in range(draw.randint(8, 64))), n)
        for n in range(count)
    ]


if __name__ == "__main__":
    main()
