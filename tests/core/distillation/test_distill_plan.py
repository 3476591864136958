"""Dry runs, job ids, hashes and warnings, without a model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tabom_cli.core.data.config import GenerateConfig, PromptsConfig
from tabom_cli.core.data.prompts import Prompt
from tabom_cli.core.decoding.config import DecodeConfig
from tabom_cli.core.distillation.config import DistillConfig
from tabom_cli.core.distillation.jobs import (
    decode_hash,
    decode_warnings,
    make_jobs,
    method_name,
    row_seed,
)
from tabom_cli.core.distillation.plan import plan


def config_of(num_problems: int, **changes: object) -> DistillConfig:
    prompts = PromptsConfig(
        generate=GenerateConfig(tasks=("countdown",), num_problems=num_problems)
    )
    return DistillConfig(prompts=prompts, **changes)  # type: ignore[arg-type]


def test_counts_and_bounds_are_those_of_hand_arithmetic() -> None:
    decode = DecodeConfig(steps=64, max_new_tokens=32, batch_size=8)
    made = plan(config_of(5, num_samples=3, decode=decode), output=Path("out/t.jsonl"))
    assert made.prompts.num_prompts == 5
    assert made.num_rows == 15
    assert made.max_forwards == 2 * 64
    assert made.max_row_forwards == 15 * 64
    assert made.max_tokens == 15 * 32
    assert made.files == (Path("out/t.jsonl"), Path("out/t.manifest.json"))
    assert made.warnings == ()


def test_several_processes_write_shards_first() -> None:
    made = plan(config_of(2), output=Path("out/t.jsonl"), world_size=2)
    assert [path.name for path in made.files] == [
        "t.jsonl.rank0",
        "t.jsonl.rank1",
        "t.jsonl",
        "t.manifest.json",
    ]


def test_a_plan_loads_neither_torch_nor_transformers() -> None:
    source = (
        "import sys; import tabom_cli.core.distillation.plan;"
        "bad = {'torch', 'transformers', 'datasets', 'lm_eval', 'pandas'} & set(sys.modules);"
        "sys.exit(', '.join(sorted(bad)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_jobs_have_stable_ids_and_seeds_of_63_bits() -> None:
    prompts = [Prompt("a", "x", None, "s"), Prompt("b", "y", None, "s")]
    jobs = make_jobs(prompts, num_samples=2, seed=1)
    assert [job.id for job in jobs] == ["a-0", "a-1", "b-0", "b-1"]
    assert len({job.seed for job in jobs}) == 4
    assert all(0 <= job.seed < 2**63 for job in jobs)
    assert make_jobs(prompts[1:], num_samples=1, seed=1)[0].seed == jobs[2].seed
    assert row_seed(2, "a", 0) != row_seed(1, "a", 0)


def test_the_decode_hash_ignores_the_batch_size_only() -> None:
    base = DecodeConfig()
    assert decode_hash(base.model_copy(update={"batch_size": 1})) == decode_hash(base)
    others = [
        {"strategy": "topk_margin"},
        {"steps": 128},
        {"temperature": 0.5},
        {"confidence_temperature": 1.0},
        {"token_pick": "sample"},
        {"options": {"decay": 0.5}},
    ]
    hashes = {decode_hash(base.model_copy(update=change)) for change in others}
    assert len(hashes | {decode_hash(base)}) == len(others) + 1


@pytest.mark.parametrize(
    ("strategy", "method"),
    [
        ("entropy", "entropy"),
        ("low_confidence", "default"),
        ("credit", "credit"),
        ("topk_margin", "topk_margin"),
    ],
)
def test_methods_are_named_as_in_the_release(strategy: str, method: str) -> None:
    assert method_name(strategy) == method


@pytest.mark.parametrize(
    ("changes", "warns"),
    [
        ({"temperature": 0.1}, True),
        ({"temperature": 0.9, "strategy": "maskgit_plus"}, True),
        ({"temperature": 0.0}, False),
        ({"temperature": 1.0}, False),
        ({"temperature": 0.1, "confidence_temperature": 1.0}, False),
        ({"temperature": 0.1, "strategy": "low_confidence"}, False),
    ],
)
def test_ranking_on_a_tempered_distribution_is_warned_about(
    changes: dict[str, object], warns: bool
) -> None:
    assert bool(decode_warnings(DecodeConfig(**changes))) == warns  # type: ignore[arg-type]
