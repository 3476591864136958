"""Model families, one file each, and how checkpoints, adapters and tokenizers are loaded."""

SHARED_MODULES = ("base", "config", "load", "lora", "template", "checks", "tokenizers", "export")
