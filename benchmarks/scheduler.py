"""Rows per second of the replaced-at-once scheduler against fixed batches, in one run.

    python benchmarks/scheduler.py --rows 96

Prompts of unequal lengths, threshold decoding. The tiny model is used when its weights are there, with
prompts from its own tasks; otherwise the same architecture with random weights and a sharpened head, so
that rows need different numbers of steps. Fixed batches get the same prompts sorted by length, their best
case, and are run twice: `fixed` keeps finished rows in the forward pass until the slowest is done, as
samplers with fixed batches do; `shrinking` drops them at once and starts no new ones, which on a CPU,
where time follows tokens, costs nothing, and on a GPU leaves it idle.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from tabom_cli.assets import tiny_path
from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.decoding.scheduler import DecodeRequest, DecodeResult, decode
from tabom_cli.core.models.base import DiffusionLM, Policy
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
    runs = {"fixed": fixed_batches, "shrinking": shrinking_batches, "replaced": replaced_at_once}
    seconds = dict.fromkeys(runs, 0.0)
    tokens = dict.fromkeys(runs, 0)
    counter = TokenCounter(model)
    answers: dict[str, dict[str, DecodeResult]] = {}
    for _ in range(arguments.repeats):
        for name, run in runs.items():
            counter.tokens = 0
            start = time.perf_counter()
            answers[name] = {result.id: result for result in run(model, rows, config)}
            seconds[name] += time.perf_counter() - start
            tokens[name] = counter.tokens
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
                "rows_per_s": {name: round(value, 3) for name, value in rate.items()},
                "ratio_to_fixed": round(rate["replaced"] / rate["fixed"], 3),
                "ratio_to_shrinking": round(rate["replaced"] / rate["shrinking"], 3),
                "tokens_through_the_network": tokens,
                "equal_answers": f"{same}/{len(rows)}",
            },
            indent=1,
        )
    )


class TokenCounter:
    """Counts the tokens that go through the network, padding included: the work without the clock."""

    def __init__(self, model: DiffusionLM) -> None:
        self.tokens = 0
        model.network.model.embed_tokens.register_forward_hook(self._count)

    def _count(
        self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: object
    ) -> None:
        self.tokens += inputs[0].numel()


def replaced_at_once(
    model: DiffusionLM, rows: Sequence[DecodeRequest], config: DecodeConfig
) -> list[DecodeResult]:
    """One decode over everything."""
    return list(decode(model, rows, config))


def fixed_batches(
    model: DiffusionLM, rows: Sequence[DecodeRequest], config: DecodeConfig
) -> list[DecodeResult]:
    """Batches of neighbours in length; finished rows stay until the slowest is done."""
    return shrinking_batches(FullBatches(model, config.batch_size), rows, config)


def shrinking_batches(
    model: Policy, rows: Sequence[DecodeRequest], config: DecodeConfig
) -> list[DecodeResult]:
    """Batches of neighbours in length; finished rows are dropped, none is added."""
    ordered = sorted(rows, key=lambda row: -len(row.prompt_token_ids))
    results: list[DecodeResult] = []
    for start in range(0, len(ordered), config.batch_size):
        results += decode(model, ordered[start : start + config.batch_size], config)
    return results


class FullBatches:
    """A policy that always runs `batch_size` rows, the missing ones as copies of the first."""

    def __init__(self, model: DiffusionLM, batch_size: int) -> None:
        self.mask_token_id = model.mask_token_id
        self.eos_token_id = model.eos_token_id
        self.pad_token_id = model.pad_token_id
        self.device = model.device
        self.logits = model.logits
        self._model = model
        self._batch_size = batch_size

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(B, L, D) for the rows that were asked for."""
        filled = self._fill(input_ids)
        mask = None if attention_mask is None else self._fill(attention_mask)
        return self._model.hidden(filled, mask)[: len(input_ids)]

    def _fill(self, rows: Tensor) -> Tensor:
        return torch.cat((rows, rows[:1].expand(self._batch_size - len(rows), -1)))


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
        model.network.lm_head.weight.mul_(50.0)
    draw = random.Random(0)
    return [
        DecodeRequest(str(n), tuple(draw.randrange(4, 600) for _ in range(draw.randint(8, 64))), n)
        for n in range(count)
    ]


if __name__ == "__main__":
    main()
