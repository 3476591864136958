"""Model families, one file each, and how checkpoints, adapters and tokenizers are loaded."""

SHARED_MODULES = (
    "base",
    "checks",
    "config",
    "export",
    "fingerprint",
    "footprint",
    "layers",
    "load",
    "lora",
    "pickles",
    "source",
    "template",
    "template_batch",
    "tokenizers",
    "values",
    "weights",
)
