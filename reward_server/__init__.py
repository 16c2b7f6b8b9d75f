"""A reward server for GRPO: named rewards (rules, Python functions, LLM judges) behind one gRPC service."""

__version__ = "0.1.0"
