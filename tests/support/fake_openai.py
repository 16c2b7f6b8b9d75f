"""A small fake of a server that speaks OpenAI's API, as a real HTTP server. Its model answers by a script."""

from __future__ import annotations

import asyncio
from typing import Any

import fake_ollama_bodies as bodies
from fake_host import FakeHost, Request, Response, json_response
from fake_ollama_slots import prompt_tokens
from scripted_judges import Answerer, Prompt, constant


class FakeOpenAI(FakeHost):
    """`with FakeOpenAI(grading(...)) as server:` speaks OpenAI's API at `server.url` + "/v1", with one model.

    Args:
        answer: what the model says to a prompt's messages (see `scripted_judges`).
        model: the model's name.
        root: what it has loaded under that name, told as vLLM tells it; None = not told.
        context_tokens: its context.
        key: if given, the API key that it asks for.
        seconds: how long it takes over an answer.
        slots: questions that it works on at a time; others wait inside.
        most_logprobs: of so many tokens it tells log-probabilities; None = of none, whatever is asked.
        counts_tokens: whether it has vLLM's `/tokenize`.
    """

    def __init__(
        self,
        answer: Answerer | None = None,
        *,
        model: str = "judge-8b",
        root: str | None = None,
        context_tokens: int = 8192,
        key: str | None = None,
        seconds: float = 0.0,
        slots: int = 64,
        most_logprobs: int | None = 20,
        counts_tokens: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.root, self.context_tokens, self.key = model, root, context_tokens, key
        self.seconds, self.most_logprobs, self.counts_tokens = seconds, most_logprobs, counts_tokens
        self.questions: list[dict[str, Any]] = []
        self.responses: list[Response] = []  # given to the next questions as they are
        self._answer = answer or constant(0.5)
        self._slots = asyncio.Semaphore(slots)

    async def answer(self, request: Request) -> Response:
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            return refusal(401, "Incorrect API key provided: none.", "invalid_api_key")
        if (request.method, request.path) == ("GET", "/v1/models"):
            entry = {"id": self.model, "object": "model", "created": 1, "owned_by": "x"}
            data = [entry | {"root": self.root, "max_model_len": self.context_tokens} if self.root else entry]
            return json_response({"object": "list", "data": data})
        if (request.method, request.path) == ("POST", "/v1/chat/completions"):
            return await self._chat(request.json())
        if (request.method, request.path) == ("POST", "/tokenize") and self.counts_tokens:
            tokens = list(range(len(prompt_tokens(request.json()["messages"]))))
            return json_response({"count": len(tokens), "max_model_len": self.context_tokens, "tokens": tokens})
        return json_response({"detail": "Not Found"}, 404)

    async def _chat(self, question: dict[str, Any]) -> Response:
        self.questions.append(question)
        if self.responses:
            return self.responses.pop(0)
        if question["model"] != self.model:
            return refusal(404, f"The model `{question['model']}` does not exist.", "model_not_found")
        top = question.get("top_logprobs") if question.get("logprobs") else None
        if top is not None and self.most_logprobs is not None and top > self.most_logprobs:
            return refusal(400, f"Requested {top} logprobs, at most {self.most_logprobs} are allowed.", "bad_value")
        read = len(prompt_tokens(question["messages"]))
        if read > self.context_tokens:
            message = (
                f"This model's maximum context length is {self.context_tokens} tokens. However, your messages resulted "
                f"in {read} tokens. Please reduce the length of the messages."
            )
            return refusal(400, message, "context_length_exceeded")
        async with self._slots:
            await asyncio.sleep(self.seconds)
        return json_response(self._said(question, read, None if self.most_logprobs is None else top))

    def _said(self, question: dict[str, Any], read: int, top: int | None) -> dict[str, Any]:
        """Returns a whole answer, with the log-probabilities of `top` tokens at each place, None = without any."""
        schema = question.get("response_format", {}).get("json_schema", {}).get("schema")
        limit = question.get("max_tokens") or question.get("max_completion_tokens")
        prompt = Prompt(question["messages"], schema=schema, seed=question.get("seed", 0))
        whole = bodies.written(self._answer(prompt), limit, schema)
        return bodies.in_openais_dialect(bodies.said(self.model, whole, prompt_token_count=read, top_logprobs=top))


def refusal(status: int, message: str, code: str) -> Response:
    """Returns an error as OpenAI's API gives it."""
    return json_response({"error": {"message": message, "type": "invalid_request_error", "code": code}}, status)


def said(text: str | None, *, finish: str | None = "stop", prompt_tokens: int = 20, **message: Any) -> dict[str, Any]:
    """Returns a whole answer as OpenAI's API gives it."""
    decoded = max(1, len(text or "") // 4)
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
