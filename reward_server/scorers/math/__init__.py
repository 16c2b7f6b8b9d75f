"""Scorers that compare mathematical answers with a reference."""
