"""Denoising with a record: the sampler, the batch scheduler and the certainty rules."""
