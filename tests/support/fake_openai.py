"""A small fake of a server that speaks OpenAI's API, as a real HTTP server."""

from __future__ import annotations

import asyncio
from typing import Any

from fake_host import FakeHost, Request, Response, json_response
from fake_ollama import Answerer, judging, token_count


class FakeOpenAI(FakeHost):
    """`with FakeOpenAI(judging(len)) as server:` speaks OpenAI's API at `server.url` + "/v1", with one model.

    Args:
        answer: what the model says to a prompt's messages.
        model: the model's name.
        context_tokens: its context.
        key: if given, the API key that it asks for.
        seconds: how long it takes over an answer.
    """

    def __init__(
        self,
        answer: Answerer | None = None,
        *,
        model: str = "judge-8b",
        context_tokens: int = 8192,
        key: str | None = None,
        seconds: float = 0.0,
    ) -> None:
        super().__init__()
        self.model, self.context_tokens, self.key, self.seconds = model, context_tokens, key, seconds
        self.questions: list[dict[str, Any]] = []
        self.responses: list[Response] = []  # given to the next questions as they are
        self._answer = answer or judging(lambda _: 5)

    async def answer(self, request: Request) -> Response:
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            error = {
                "message": "Incorrect API key provided: none.",
                "type": "invalid_request_error",
                "code": "invalid_api_key",
            }
            return json_response({"error": error}, 401)
        if (request.method, request.path) == ("GET", "/v1/models"):
            return json_response(
                {"object": "list", "data": [{"id": self.model, "object": "model", "created": 1, "owned_by": "x"}]}
            )
        if (request.method, request.path) == ("POST", "/v1/chat/completions"):
            return await self._chat(request.json())
        return json_response({"detail": "Not Found"}, 404)

    async def _chat(self, question: dict[str, Any]) -> Response:
        self.questions.append(question)
        if self.responses:
            return self.responses.pop(0)
        if question["model"] != self.model:
            error = {
                "message": f"The model `{question['model']}` does not exist.",
                "type": "NotFoundError",
                "param": None,
                "code": 404,
            }
            return json_response({"error": error}, 404)
        tokens = token_count(question["messages"])
        if tokens > self.context_tokens:
            message = (
                f"This model's maximum context length is {self.context_tokens} tokens. However, your messages resulted "
                f"in {tokens} tokens. Please reduce the length of the messages."
            )
            error = {
                "message": message,
                "type": "invalid_request_error",
                "param": "messages",
                "code": "context_length_exceeded",
            }
            return json_response({"error": error}, 400)
        await asyncio.sleep(self.seconds)
        text, limit = self._answer(question["messages"]), question.get("max_tokens", 10_000)
        whole = len(text) <= limit * 8
        return json_response(
            said(text[: limit * 8], finish="stop" if whole else "length", prompt_tokens=tokens, limit=limit)
        )


def said(
    text: str | None, *, finish: str | None = "stop", prompt_tokens: int = 20, limit: int = 10_000, **message: Any
) -> dict[str, Any]:
    """Returns a whole answer as OpenAI's API gives it."""
    decoded = min(limit, max(1, len(text or "") // 4))
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "judge-8b",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": finish,
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": decoded,
            "total_tokens": prompt_tokens + decoded,
        },
    }
