"""One file per task: the file's name is the task's name, its `TASK` says how lm-eval runs it."""

SHARED_MODULES = ("base", "harness_task", "tiny_task", "code_task")
