"""Training objectives, one paper each; the file name is the name in `objective.name`."""

SHARED_MODULES = ("base", "ranking", "scoring", "states")
