"""A fake Ollama as a real HTTP server: answers in the shape of the recordings, says what a scripted judge says, and can
do all that a real one does on a bad day."""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import AsyncIterator, Callable
from enum import Enum, auto
from typing import Any

import recordings
from fake_host import FakeHost, HangUp, Request, Response, json_response

MODEL = "smollm2:135m"
DIGEST = "fd5f44c0b5aff6453726119fc560d73a8a995a55b4a49804bc24b1969ecf1794"

Messages = list[dict[str, str]]
Answerer = Callable[[Messages], str]


class Fault(Enum):
    """What goes wrong with one question."""

    HANG = auto()  # no answer at all
    DRIP = auto()  # an answer that never ends
    HANG_UP = auto()  # the connection closes without an answer
    CUT_BODY = auto()  # it closes in the middle of the body
    DONE_FALSE = auto()  # 200 with an answer that is not complete
    UNLOADED = auto()  # 200, done by "unload"
    CRASHED = auto()  # 500: the model's process died
    HALF_JSON = auto()  # the answer is cut off in the middle of its JSON
    NOT_JSON = auto()  # the model chats instead of grading
    HTML = auto()  # 200 with a proxy's page
    HTML_502 = auto()  # a proxy's error page
    JSON_LIST = auto()  # 500 with a list as its body
    MISSING_MODEL = auto()
    TOO_LONG = auto()  # 400, JSON inside a text inside JSON
    BUSY = auto()  # 503
    WRONG_TOKEN = auto()  # 401
    EMPTY = auto()  # 200 without a body


def judging(score: Callable[[str], float], reason: str = "as scripted") -> Answerer:
    """Returns a judge's model that reads the completion out of its prompt and gives it the scripted score."""

    def answer(messages: Messages) -> str:
        return json.dumps({"reason": reason, "score": score(completion_in(messages))})

    return answer


def completion_in(messages: Messages) -> str:
    """Returns the completion that a judge's prompt shows, between its fences."""
    found = re.search(
        r"^BEGIN COMPLETION (\w+)\n(.*)\nEND COMPLETION \1$", messages[-1]["content"], re.DOTALL | re.MULTILINE
    )
    assert found is not None, "the prompt has no fenced completion"
    return found[2]


def token_count(messages: Messages) -> int:
    """Counts as a tokenizer might: words and marks, and four tokens for each message's frame."""
    return sum(4 + len(re.findall(r"\w+|[^\w\s]", message["content"])) for message in messages)


class FakeOllama(FakeHost):
    """`with FakeOllama(judging(len)) as ollama:` is an Ollama at `ollama.url` with one model.

    Args:
        answer: what the model says to a prompt's messages.
        model: the model's name.
        context_length: of the model itself.
        capabilities: what it can do.
        slots: questions that it works on at a time; others wait inside.
        seconds: how long it takes over an answer.
        token: if given, the bearer token that a proxy in front of it asks for.
        present: whether the model is there from the start, or only after a pull.
    """

    def __init__(
        self,
        answer: Answerer | None = None,
        *,
        model: str = MODEL,
        context_length: int = 8192,
        capabilities: tuple[str, ...] = ("completion",),
        slots: int = 1,
        seconds: float = 0.0,
        token: str | None = None,
        present: bool = True,
    ) -> None:
        super().__init__()
        self.model, self.context_length, self.capabilities = model, context_length, capabilities
        self.present, self.token, self.seconds = present, token, seconds
        self.digest = DIGEST
        self.faults: list[Fault | None] = []  # one for each of the next questions, None for a good answer
        self.always: Fault | None = None  # for all questions after those
        self.pull_error: str | None = None
        self.replay: dict[str, Any] | None = None  # a recorded response, given to every question
        self.questions: list[dict[str, Any]] = []
        self._answer = answer or judging(lambda _: 5)
        self._slots = asyncio.Semaphore(slots)

    async def answer(self, request: Request) -> Response:
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            return Response(401, b"Unauthorized", "text/plain")
        routes = {
            ("GET", "/"): self._root,
            ("GET", "/api/version"): self._version,
            ("GET", "/api/tags"): self._tags,
            ("GET", "/api/ps"): self._ps,
            ("POST", "/api/show"): self._show,
            ("POST", "/api/pull"): self._pull,
            ("POST", "/api/chat"): self._chat,
            ("GET", "/v1/models"): self._openai_models,
        }
        if handler := routes.get((request.method, request.path)):
            return await handler(request)
        if any(path == request.path for _, path in routes):
            return Response(405, b"405 method not allowed", "text/plain")
        return Response(404, b"404 page not found", "text/plain")

    async def _root(self, _: Request) -> Response:
        return Response(200, b"Ollama is running", "text/plain; charset=utf-8")

    async def _version(self, _: Request) -> Response:
        return json_response(_recorded("life", "version"))

    async def _tags(self, _: Request) -> Response:
        body = _recorded("life", "tags")
        body["models"] = [self._entry(entry) for entry in body["models"]] if self.present else []
        return json_response(body)

    async def _ps(self, _: Request) -> Response:
        body = _recorded("life", "ps, loaded" if self.questions else "ps, nothing loaded")
        body["models"] = [self._entry(entry) for entry in body["models"]]
        return json_response(body)

    def _entry(self, entry: dict[str, Any]) -> dict[str, Any]:
        return entry | {"name": self.model, "model": self.model, "digest": self.digest}

    async def _show(self, request: Request) -> Response:
        if not self._has(request.json()["model"]):
            return self._missing(request.json()["model"])
        body = _recorded("life", "show")
        body["model_info"]["llama.context_length"] = self.context_length
        body["capabilities"] = list(self.capabilities)
        return json_response(body)

    async def _openai_models(self, _: Request) -> Response:
        body = _recorded("openai", "openai models")
        body["data"][0]["id"] = self.model
        return json_response(body, content_type="application/json")

    async def _pull(self, request: Request) -> Response:
        async def lines() -> AsyncIterator[bytes]:
            progress: list[dict[str, Any]] = [{"status": "pulling manifest"}]
            if self.pull_error is None:
                layer = {"status": "pulling fd5f44c0b5af", "digest": "sha256:fd5f44c0b5af", "total": 98362745}
                progress += [layer, layer | {"completed": 50_000_000}, layer | {"completed": 98362745}]
                progress += [
                    {"status": "verifying sha256 digest"},
                    {"status": "writing manifest"},
                    {"status": "success"},
                ]
                self.present = True
            else:
                progress.append({"error": self.pull_error})
            for line in progress:
                yield json.dumps(line).encode() + b"\n"

        return Response(200, content_type="application/x-ndjson", pieces=lines())

    async def _chat(self, request: Request) -> Response:
        question = request.json()
        self.questions.append(question)
        if self.replay is not None:
            return Response(
                self.replay["status"], recordings.body_of(self.replay), recordings.content_type_of(self.replay)
            )
        fault = self.faults.pop(0) if self.faults else self.always
        if fault is not None:
            return await self._faulty(fault, question)
        if not self._has(question["model"]):
            return self._missing(question["model"])
        if question.get("think") and "thinking" not in self.capabilities:
            return json_response({"error": f'"{self.model}" does not support thinking'}, 400)
        tokens, context = token_count(question["messages"]), question["options"]["num_ctx"]
        if tokens > context and question.get("truncate") is False:
            return _too_long(tokens, context)
        async with self._slots:
            await asyncio.sleep(self.seconds)
            return self._said(question, self._answer(question["messages"]), tokens)

    def _said(self, question: dict[str, Any], text: str, prompt_tokens: int, done: str = "stop") -> Response:
        pieces = re.findall(r"\s*\S", text)  # a token a visible character: the dearest tokenizer
        limit = question["options"]["num_predict"]
        if len(pieces) > limit * 8:
            pieces, done = pieces[: limit * 8], "length"
        body = _recorded("chat", "schema") | {
            "model": self.model,
            "message": {"role": "assistant", "content": "".join(pieces) if done == "length" else text},
            "done_reason": done,
            "prompt_eval_count": prompt_tokens,
            "eval_count": min(limit, max(1, len(pieces) // 4)),
        }
        return json_response(body)

    async def _faulty(self, fault: Fault, question: dict[str, Any]) -> Response:
        if fault is Fault.HANG:
            await asyncio.sleep(3600)
        if fault is Fault.HANG_UP:
            raise HangUp
        whole = json.loads(self._said(question, '{"reason": "x", "score": 5}', 10).body)
        incomplete = {key: whole[key] for key in ("model", "created_at", "message")} | {"done": False}
        return {
            Fault.CUT_BODY: Response(200, b'{"model":"smollm2:135m","mess', declared_length=300),
            Fault.DRIP: Response(200, pieces=_drip()),
            Fault.DONE_FALSE: json_response(incomplete),
            Fault.UNLOADED: json_response(_recorded("life", "unload")),
            Fault.CRASHED: json_response(_recorded("faults", "inference process killed during a request"), 500),
            Fault.HALF_JSON: self._said(question, '{\n  "reason": "', 10, "length"),
            Fault.NOT_JSON: self._said(question, "Sure! I would give this a 9.", 10),
            Fault.HTML: Response(200, b"<html><title>Sign in</title><body>Please sign in</body></html>", "text/html"),
            Fault.HTML_502: Response(502, b"<html><body><h1>502 Bad Gateway</h1>nginx</body></html>", "text/html"),
            Fault.JSON_LIST: json_response([{"error": {"message": "upstream went away", "code": 500}}], 500),
            Fault.MISSING_MODEL: self._missing(question["model"]),
            Fault.TOO_LONG: _too_long(910, 256),
            Fault.BUSY: json_response(_recorded("faults", "queue full while a model loads"), 503),
            Fault.WRONG_TOKEN: Response(401, b"Unauthorized", "text/plain"),
            Fault.EMPTY: Response(200),
        }[fault]

    def _has(self, model: str) -> bool:
        return self.present and model in (self.model, self.model.removesuffix(":latest"))

    def _missing(self, model: str) -> Response:
        return json_response({"error": f"model '{model}' not found"}, 404)


def _recorded(file: str, name: str) -> Any:
    """Returns the JSON of a recorded response, to be changed at will."""
    return copy.deepcopy(recordings.exchange(file, name)["response"]["json"])


def _too_long(tokens: int, context: int) -> Response:
    inner = json.loads(recordings.exchange("context", "over num_ctx 256, truncate false")["response"]["json"]["error"])
    inner["error"] |= {
        "message": f"request ({tokens} tokens) exceeds the available context size ({context} tokens), try increasing it",
        "n_prompt_tokens": tokens,
        "n_ctx": context,
    }
    return json_response({"error": json.dumps(inner, separators=(",", ":"))}, 400)


async def _drip() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.01)
