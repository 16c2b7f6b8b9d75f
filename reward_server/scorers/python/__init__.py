"""A person's reward function as a scorer, called in worker processes."""
