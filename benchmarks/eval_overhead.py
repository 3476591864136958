"""Measure what evaluation costs outside the model, against a 7B model's time for the same answers.

Renders all prompts of a task, tokenises them, writes an answer for each (the reference, so that code
runs and mathematics is compared) and scores them. Seconds are those of the CPU, of child processes
too, so that other work on the machine does not count; code runs on all cores. The model's time is a lower bound: forwards of the
release's settings on one H100 at its peak of 989 TFLOP/s, which no run reaches.

    python benchmarks/eval_overhead.py DATA_DIR [TASK]...
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tabom_cli.assets import tiny_path
from tabom_cli.core.evaluation.presets import find_preset
from tabom_cli.core.evaluation.records import Completion, CompletionsHeader, Request, read_requests
from tabom_cli.core.evaluation.requests import build_requests
from tabom_cli.core.evaluation.results import write_results
from tabom_cli.core.evaluation.score import score
from tabom_cli.core.jsonl import append_jsonl
from tabom_cli.core.models.template import render_prompt
from tabom_cli.core.models.tokenizers import load_tokenizer

TASKS = (
    "gsm8k_cot",
    "minerva_math500",
    "humaneval_instruct_dream",
    "mbpp_instruct_dream",
    "ifeval",
)
PARAMETERS, PEAK_FLOPS, CHARACTERS_PER_TOKEN = 7.6e9, 989e12, 4.0
LIMIT = 0.02
FORMS = {"minerva_math500": "Final Answer: The final answer is ${}$. I hope it is correct."}


def main() -> int:
    """Print one line per task; exit code 1 when one exceeds the limit."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    worst = 0.0
    for task in sys.argv[2:] or TASKS:
        with tempfile.TemporaryDirectory() as folder:
            worst = max(worst, measure(task, Path(sys.argv[1]), Path(folder)))
    return int(worst > LIMIT)


def measure(task: str, data_dir: Path, folder: Path) -> float:
    """Overhead of a task as a part of the model's time."""
    preset = find_preset("dream", "release", task)
    assert preset is not None, task
    requests_path, completions_path = folder / "requests.jsonl", folder / "completions.jsonl"
    build_requests([task], requests_path, data_dir=data_dir, limit=2)  # imports are paid once
    began = cpu_time_s()
    build_requests([task], requests_path, data_dir=data_dir)
    _, requests = read_requests(requests_path)
    tokenizer = load_tokenizer(tiny_path())
    for request in requests:
        messages = [message.model_dump() for message in request.messages]
        for length in (None, preset.max_prompt_length):
            render_prompt(tokenizer, messages, max_length=length, gen_prefix=request.gen_prefix)
    rendering = cpu_time_s() - began
    answers = dict.fromkeys((request.id for request in requests), "")
    write(completions_path, requests, answers)
    (empty,) = score(requests_path, completions_path, allow_code_execution=True)
    answers = {
        sample.request_id: FORMS.get(task, "{}").format(sample.target) for sample in empty.samples
    }
    completions_path.unlink()
    began = cpu_time_s()
    write(completions_path, requests, answers)
    writing = cpu_time_s() - began
    began = cpu_time_s()
    scores = score(requests_path, completions_path, allow_code_execution=True)
    scoring = cpu_time_s() - began
    began = cpu_time_s()
    paths = {task: completions_path}
    write_results(folder, scores, requests_path=requests_path, completions_paths=paths, manifest={})
    writing += cpu_time_s() - began
    decode = preset.decode
    lengths = [
        min(sum(len(m.content) for m in item.messages) / CHARACTERS_PER_TOKEN, 1024)
        + decode.max_new_tokens
        for item in requests
    ]
    model = 2 * PARAMETERS * sum(lengths) * decode.steps / PEAK_FLOPS
    overhead = rendering + writing + scoring
    print(
        f"{task:26} {len(requests):5} prompts  rendering {rendering:6.2f} s  writing "
        f"{writing:5.2f} s  scoring {scoring:6.2f} s  model at least {model:7.0f} s  "
        f"overhead {overhead / model:.2%}"
    )
    return overhead / model


def cpu_time_s() -> float:
    """CPU seconds of this process and its ended children."""
    return sum(os.times()[:4])


def write(path: Path, requests: list[Request], answers: dict[str, str]) -> None:
    """A completions file as `generate` appends it."""
    header = CompletionsHeader(
        key="k",
        model="lookup",
        revision=None,
        adapter=None,
        family="dream",
        weights_hash="w",
        template_hash="t",
        decode={},
        max_prompt_length=1024,
        answer_end="eos",
        world_size=1,
        versions={},
        device="cpu",
    )
    with append_jsonl(path) as writer:
        writer.write(header.model_dump(mode="json"))
        for request in requests:
            completion = Completion(
                id=request.id,
                task=request.task,
                doc_index=request.doc_index,
                sample_index=0,
                text=answers[request.id],
                num_prompt_tokens=1,
                num_tokens=1,
                num_revealed=1,
                num_forwards=1,
                num_steps=1,
                ended=True,
                time_s=0.1,
            )
            writer.write(completion.model_dump(mode="json"))


if __name__ == "__main__":
    sys.exit(main())
