"""GRPO training whose rewards come from a reward server, and the client to use in scripts of your own."""

__version__ = "0.1.0"
