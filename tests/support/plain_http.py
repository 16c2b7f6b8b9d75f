"""Clients for hosts of the tests' own, which speak no TLS."""

from __future__ import annotations

import ssl
from typing import Final

import httpx

NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Made once, without certificates: reading the machine's takes longer than most tests."""


def plain_client() -> httpx.AsyncClient:
    """Returns a client with as many connections as are wanted, and no proxy."""
    limits = httpx.Limits(max_connections=None)
    return httpx.AsyncClient(verify=NO_TLS, trust_env=False, timeout=30, limits=limits)
