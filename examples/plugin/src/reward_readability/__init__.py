"""Scores how easy an English text is to read."""
