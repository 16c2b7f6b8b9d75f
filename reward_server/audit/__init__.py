"""Measures a reward that calls itself a judge, before anybody trains on it. `docs/judge-audit.md` says what and how."""
