"""Scores programs by the tests that they pass, in a sandbox."""
