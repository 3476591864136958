"""The training loop and its checkpoints. Does not know which objective runs."""
