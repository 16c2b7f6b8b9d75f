"""Scorers that find the answer in a completion and compare it with a reference."""
