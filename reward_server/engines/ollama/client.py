"""Ollama's official Python client, made safe: our token and no other, a time limit, and engine errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx
import ollama

from reward_server.errors import EngineError, HostFailed, HostRefused, HostUnreachable
from reward_server.http.complaints import Addressee, complaint_in, error_for, excerpt
from reward_server.http.host import CONNECT_TIMEOUT_S, proxies_apply


def new_client(url: str, headers: Mapping[str, str], silence_s: float) -> ollama.AsyncClient:
    """Returns a client that gives a host up after `silence_s` without a byte from it."""
    authorization = headers.get("authorization")

    async def only_our_token(request: httpx.Request) -> None:
        # The client would send the user's OLLAMA_API_KEY to any host.
        request.headers.pop("authorization", None)
        if authorization:
            request.headers["authorization"] = authorization

    return ollama.AsyncClient(
        host=url,
        follow_redirects=False,
        timeout=httpx.Timeout(silence_s, connect=CONNECT_TIMEOUT_S),
        trust_env=proxies_apply(url),
        event_hooks={"request": [only_our_token]},
    )


@contextmanager
def engine_errors(to: Addressee, mend: str) -> Iterator[None]:
    """Turns all that the client can raise into engine errors. `mend` is what a person does where nobody answers."""
    try:
        yield
    except EngineError:
        raise
    except ollama.ResponseError as error:
        raise _refusal(to, error) from error
    except (ConnectionError, httpx.HTTPError) as error:
        raise HostUnreachable(
            f"{to.label}: no connection ({error.__cause__ or error.__context__ or error or type(error).__name__}). {mend}"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        # What the client stumbles over when the answer is not Ollama's: HTML, a list, other fields.
        raise HostRefused(
            f"{to.label}: the answer is not Ollama's ({excerpt(str(error))}). Is something else at this URL? {mend}"
        ) from error


def _refusal(to: Addressee, error: ollama.ResponseError) -> EngineError:
    """Returns the engine error for the client's; one inside a stream that began with 200 has the status -1."""
    complaint = complaint_in(error.error)
    if error.status_code < 0:
        return HostFailed(f"{to.label}: {complaint.message}")
    return error_for(to, error.status_code, complaint)
