"""Scorers, one family a file. A rule does no I/O, reads no clock and logs nothing."""
