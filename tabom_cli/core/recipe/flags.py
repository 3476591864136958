"""Flags and environment variables of the original release, and the recipe key that replaces each.

README shows this table; an unknown key that is in it gets a hint.
"""

from __future__ import annotations

ORIGINAL_FLAGS: dict[str, str] = {
    "--td_supervision_window": "objective.supervision_window",
    "--entropy_rank_window": "objective.rank_window",
    "--entropy_rank_margin": "objective.rank_margin",
    "--entropy_rank_lambda": "objective.rank_weight",
    "--entropy_rank_reg": "objective.name",
    "--mask_schedule": "objective.name",
    "--mask_include_padding_resp": "objective.include_padding",
    "--mask_ratio": "objective.ratio",
    "--off_tokenize": "data.use_token_ids",
    "--local_data_method": "data.method_filter",
    "--max_prompt_len": "data.max_prompt_length",
    "--max_new_tokens": "data.response_length",
    "--gen_steps": "distill.decode.steps",
    "--temperature": "distill.decode.temperature",
    "--top_p": "distill.decode.top_p",
    "--student_backend": "model.path",
    "--lora_r": "lora.rank",
    "--lora_alpha": "lora.alpha",
    "--lora_dropout": "lora.dropout",
    "--learning_rate": "train.learning_rate",
    "--lr": "train.learning_rate",
    "--warmup_steps": "train.warmup_steps",
    "--weight_decay": "train.weight_decay",
    "--max_grad_norm": "train.max_grad_norm",
    "--gradient_accumulation_steps": "train.global_batch_size",
    "--save_steps": "train.save_every",
    "--seed": "seed",
    "CUDA_VISIBLE_DEVICES": "train.launch.num_processes",
    "NPROC_PER_NODE": "train.launch.num_processes",
    "TRAIN_BATCH_SIZE": "train.micro_batch_size",
    "EPOCHS": "train.epochs",
    "TRAIN_OUTPUT_DIR": "train.output_dir",
    "USE_WANDB": "train.tracker",
    "DRY_RUN": "--dry-run (on the command line)",
    "RUN_TS": "(made by tabom; see the run folder's name)",
}
"""Original name to recipe key. `CUDA_VISIBLE_DEVICES` still selects GPUs; the key limits how many."""
