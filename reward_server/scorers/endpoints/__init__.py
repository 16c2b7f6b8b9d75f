"""Scorers that ask somebody else's server over HTTP: a reward function behind a URL, or a reward model."""
