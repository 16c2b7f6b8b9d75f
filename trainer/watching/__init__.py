"""Watching over a run: what is measured of each batch, and what the numbers of many steps warn of."""
