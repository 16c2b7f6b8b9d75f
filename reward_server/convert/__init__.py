"""The contract's messages <-> the server's own types, exactly and strictly.

Everything per sample is columnar on the wire, so that nothing here makes a message per sample. What contradicts itself
is refused with `MalformedRequest`, whose words name the field and the item.
"""

from reward_server.convert.answers import listing_from, score_response_from, stream_response_from
from reward_server.convert.requests import (
    list_request_from,
    samples_from,
    score_request_from,
    selectors_from,
    stream_request_from,
)

__all__ = [
    "list_request_from",
    "listing_from",
    "samples_from",
    "score_request_from",
    "score_response_from",
    "selectors_from",
    "stream_request_from",
    "stream_response_from",
]
