"""Makes the tiny model's tokenizer and config from the embedded tasks: `python benchmarks/make_tokenizer.py`.

Byte-level BPE whose alphabet holds all 256 bytes, so any text round-trips; digits stay single; the
merges come from training problems only. Writes into `tabom_cli/assets/tiny` (or the folder given) and
prints how many tokens prompts and answers take. The same inputs give the same files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tabom_cli.assets import tiny_path
from tabom_cli.assets.tasks import problems, task_names

VOCAB_SIZE = 640
END_OF_TEXT, TURN_START, TURN_END, MASK = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|mask|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if not loop.first %}{{ '\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n<|im_start|>assistant\\n' }}{% endif %}"
)
# Operators and commas take their spaces and words the space before a number, so that a number is the
# same digits wherever it stands; a line break takes the indentation after it.
PIECES = (
    r"\p{N}| ?\p{L}+(?: (?=\p{N}))?| ?[-+*/%=<>]+ ?|, (?=\p{N})"
    r"|[\r\n] *| ?[^\s\p{L}\p{N}]+|\s+"
)


def tokenizer_from(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[END_OF_TEXT, TURN_START, TURN_END, MASK],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def model_config(vocab_size: int) -> dict[str, object]:
    return {
        "architectures": ["DreamModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "hidden_act": "silu",
        "hidden_size": 192,
        "initializer_range": 0.02,
        "intermediate_size": 512,
        "mask_token_id": 3,
        "max_position_embeddings": 512,
        "model_type": "Dream",
        "num_attention_heads": 6,
        "num_hidden_layers": 5,
        "num_key_value_heads": 6,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 10000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": -(-vocab_size // 8) * 8,
    }


def main(folder: Path) -> None:
    corpus = problems(task_names(), split="train", num_problems=30_000, seed=0)
    texts = [text for problem in corpus for text in (f"user\n{problem.prompt}", problem.answer)]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_from(texts + ["assistant\n", "system\n"] * 1000),
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        mask_token=MASK,
        additional_special_tokens=[TURN_START, TURN_END],
        clean_up_tokenization_spaces=False,
        model_max_length=512,
        padding_side="left",
    )
    fast.chat_template = CHAT_TEMPLATE
    folder.mkdir(parents=True, exist_ok=True)
    fast.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(
        json.dumps(_tokenizer_config(folder), indent=2, sort_keys=True) + "\n"
    )
    (folder / "config.json").write_text(
        json.dumps(model_config(len(fast)), indent=2, sort_keys=True) + "\n"
    )
    print(f"{folder}: {len(fast)} tokens")
    print("| task | prompt mean | p99 | max | answer mean | p99 | max |")
    for task in task_names():
        rows = problems([task], split="train", num_problems=20_000, seed=1)
        print("|", task, "|", " | ".join((_lengths(fast, rows, True), _lengths(fast, rows, False))))


def _lengths(fast: PreTrainedTokenizerFast, rows: list, is_prompt: bool) -> str:
    texts = []
    for row in rows:
        messages = [{"role": "user", "content": row.prompt}]
        rendered = fast.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        texts.append(rendered if is_prompt else row.answer + TURN_END)
    lengths = sorted(len(ids) for ids in fast(texts, add_special_tokens=False)["input_ids"])
    mean, p99 = sum(lengths) / len(lengths), lengths[int(0.99 * len(lengths))]
    return f"{mean:.1f} | {p99} | {lengths[-1]}"


def _tokenizer_config(folder: Path) -> dict[str, object]:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["chat_template"] = CHAT_TEMPLATE
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    for key in ("is_local", "local_files_only"):
        config.pop(key, None)
    return config


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else tiny_path())
