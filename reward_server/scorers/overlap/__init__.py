"""Scorers that measure how much a text overlaps with reference texts."""
