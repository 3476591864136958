"""From prompts to verified trajectory files. Knows nothing about training."""
