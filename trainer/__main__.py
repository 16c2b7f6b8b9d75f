"""`python -m trainer` is `grpo-train`."""

from trainer.cli import main

main()
