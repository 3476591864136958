"""Certainty rules, one file each; the file name is the name in `decode.strategy`."""

SHARED_MODULES = ("base",)
