"""Verifiable instructions: what a text was told to be like, checked without asking anybody."""
