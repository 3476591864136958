"""Settings of the prompt section for public data sets. Values only: imports nothing, reads nothing.

A preset fills the keys that a recipe leaves out. What is known of each data set, and from where:

- `mixchain_z_prm12k`: columns question, answer (worked solution), target (final answer); one split
  `train` of 12,000 rows; Apache-2.0. Source: its dataset card. All rows are used, as in the paper (12K).
- `ling_coder_sft`: columns mid, messages, tags, languages; turns have the roles HUMAN and ASSISTANT; one
  split `train`, 5 million rows in 26 parquet files; Apache-2.0; no tests, so answers stay unverified.
  Source: its Hub listing and public code that reads it. Unverified: the case of the roles in every row
  (any case is accepted), and which rows the paper drew: it says 17K in one place and 18K in another and
  names no seed, so 18,000 drawn with seed 42 are our choice.
- `gsm8k_train`: `gsm8k/train.jsonl` of --data-dir with question and answer (`#### number`), MIT.
- `mbpp_train`: `mbpp/mbpp.jsonl` of --data-dir, task ids 601 to 974, which the MBPP authors name the
  training split (1-10 few-shot, 11-510 test, 511-600 validation), CC-BY-4.0. The wording of the prompt is
  ours: the task with its tests, because the text alone does not name the function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "mixchain_z_prm12k": {
        "hub": "horseee/MixChain-Z-PRM12K",
        "prompt_column": "question",
        "reference_column": "target",
        "sample": 12_000,
    },
    "ling_coder_sft": {
        "hub": "inclusionAI/Ling-Coder-SFT",
        "prompt_column": "messages",
        "reference_column": None,
        "sample": 18_000,
    },
    "gsm8k_train": {
        "data_file": "gsm8k/train.jsonl",
        "prompt_column": "question",
        "reference_column": "answer",
    },
    "mbpp_train": {
        "data_file": "mbpp/mbpp.jsonl",
        "prompt_column": "text",
        "template": "{text}\nYour code should pass these tests:\n{test_list}",
        "reference_column": "test_list",
        "setup_column": "test_setup_code",
        "id_column": "task_id",
        "id_range": (601, 974),
    },
}

PLACES = ("path", "hub", "data_file", "generate")
"""Keys of which one says where the prompts are."""


def with_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a prompt section with its preset filled in; a place of its own comes first.

    Raises:
        ValueError: No such preset.
    """
    name = values.get("preset")
    if name is None:
        return dict(values)
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: there are {', '.join(PRESETS)}")
    own_place = any(values.get(key) is not None for key in PLACES)
    preset = {
        key: value for key, value in PRESETS[name].items() if not (own_place and key in PLACES)
    }
    return preset | dict(values)
