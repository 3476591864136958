"""Trajectories, prompts, answer checks and batches. Never calls a model."""
