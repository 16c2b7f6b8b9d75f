"""Looks, without gRPC, at a server whose connections break at once: gRPC only says "Socket closed".

That is what happens when only one end speaks TLS, or when the server wants a certificate that the client has not given.
Waiting mends neither. But a TLS proxy in front of a server that is away does much the same, so only what is certain is
called a mistake.
"""

from __future__ import annotations

import re
import socket
import ssl

from trainer.client.options import ClientOptions

_TIMEOUT_S = 2.0
_HOST_AND_PORT = re.compile(r"(?:dns:(?:///)?)?(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:/,]+)):(?P<port>[0-9]+)")

ENDS_AT_ONCE = (
    "the connection ends right after the TLS handshake; if the server wants a client's certificate, give "
    "certificate_file= and key_file="
)


def tls_mistake(options: ClientOptions, address: str) -> str | None:
    """Returns what a person has to mend before a connection can work, `ENDS_AT_ONCE`, or None where nothing is odd.

    Blocks for a few seconds at most.
    """
    match = _HOST_AND_PORT.fullmatch(address)
    if match is None:
        return None
    host, port = match["v6"] or match["host"], int(match["port"])
    try:
        first_words = _handshake(options, host, port)
    except OSError:  # refused, timed out, no TLS at the other end
        return None
    if not options.tls:
        return (
            "the server there speaks TLS, this client does not; add tls=True, and ca_file= for an authority of your own"
        )
    return None if first_words else ENDS_AT_ONCE


def _handshake(options: ClientOptions, host: str, port: int) -> bytes:
    """Returns what a server says first after a TLS handshake; nothing if it ends the connection.

    Raises:
        OSError: There was no handshake.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent; whether the server is to be trusted is gRPC's to check
    context.set_alpn_protocols(["h2"])
    if options.certificate_file is not None:
        context.load_cert_chain(options.certificate_file, options.key_file)
    with (
        socket.create_connection((host, port), timeout=_TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=options.server_name or host) as encrypted,
    ):
        try:
            return encrypted.recv(1)  # with TLS 1.3 a server refuses after the client thinks that all is well
        except TimeoutError:
            return b"?"
        except OSError:
            return b""
