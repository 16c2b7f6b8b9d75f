"""A fake Ollama as a real HTTP server: answers in the shape of the recordings, says what a scripted judge says, takes the
time that its slots and caches make of stated costs, and can do all that a real one does on a bad day.

| module | what |
|---|---|
| fake_ollama | the host: its API, its model, what a test can do to it |
| fake_ollama_slots | tokens, slots with their caches, loading, time |
| fake_ollama_prompts | what the model reads of a request, and what it then says |
| fake_ollama_bodies | answers, log-probabilities, streams |
| fake_ollama_checks | what it complains of |
| fake_ollama_faults | what can go wrong |
| scripted_judges | what its model says |
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import fake_ollama_checks as checks
import recordings
from fake_host import FakeHost, Request, Response, json_response
from fake_ollama_bodies import Written, in_openais_dialect, lines_of, message_of, moment, ndjson, said, written
from fake_ollama_checks import Complaint
from fake_ollama_faults import SPOILS, Fault, instead
from fake_ollama_prompts import answer_to, effective_options, fitted, from_openais_dialect
from fake_ollama_slots import Costs, QueueFull, Residence, Served, Slots, token_count
from scripted_judges import Answerer, Labels, Messages, completion_in, constant, judging

__all__ = [
    "DIGEST",
    "MODEL",
    "OTHER_DIGEST",
    "Answerer",
    "FakeOllama",
    "Fault",
    "Labels",
    "Messages",
    "Served",
    "completion_in",
    "judging",
    "token_count",
]

MODEL: Final = "smollm2:135m"
DIGEST: Final = "fd5f44c0b5aff6453726119fc560d73a8a995a55b4a49804bc24b1969ecf1794"
OTHER_DIGEST: Final = "0123456789abcdef" * 4
THOUGHTS: Final = "Let me see."
YEARS_S: Final = 1e9


class FakeOllama(FakeHost):
    """`with FakeOllama(grading(...)) as ollama:` is an Ollama at `ollama.url` with one model.

    Args:
        answer: what the model says to a prompt's messages (see `scripted_judges`).
        model: the model's name.
        context_length: of the model itself, in tokens.
        capabilities: what it can do.
        slots: questions that it works on at a time; others wait inside, without bound.
        seconds: what every answer takes, beside its tokens.
        prompt_token_s: what reading a token takes that the slot has not in its cache.
        decoded_token_s: what writing a token takes.
        load_s: what loading the model takes.
        max_queue: so many may wait for a load; the next are refused.
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
        prompt_token_s: float = 0.0,
        decoded_token_s: float = 0.0,
        load_s: float = 0.0,
        max_queue: int = 512,
        token: str | None = None,
        present: bool = True,
    ) -> None:
        super().__init__()
        self.model, self.context_length, self.capabilities = model, context_length, capabilities
        self.present, self.token, self.digest = present, token, DIGEST
        self.faults: list[Fault | None] = []  # one for each of the next questions, None for a good answer
        self.always: Fault | None = None  # for all questions after those
        self.fault_for: Callable[[Messages], Fault | None] = lambda _: None  # by what the prompt is; before all others
        self.pull_error: str | None = None
        self.replay: dict[str, Any] | None = None  # a recorded response, given to every question
        self.questions: list[dict[str, Any]] = []  # requests with messages; those that only load or unload are none
        self.questions_in_flight = 0
        self.most_questions_in_flight = 0
        self._answer = answer or constant(0.5)
        self._slots = Slots(slots, Costs(seconds, prompt_token_s, decoded_token_s, load_s))
        self._residence = Residence(self._slots, max_queue)

    @property
    def served(self) -> list[Served]:
        """Returns what the slots have answered, in the order in which it was done."""
        return self._slots.served

    @property
    def fresh_prompt_tokens(self) -> list[int]:
        """Returns how many tokens each slot has read that were not in its cache."""
        return [slot.fresh_prompt_tokens for slot in self._slots.slots]

    @property
    def loads(self) -> int:
        """Returns how often the model was loaded."""
        return self._residence.loads

    def slow(self, factor: float) -> None:
        """Makes everything take so many times as long, from the next that is begun. 1 = as stated."""
        self._slots.slowness = factor

    def retag(self, digest: str = OTHER_DIGEST) -> None:
        """Gives the model's name to another model, as `ollama create` does: only tags tells, and nothing is loaded."""
        self.digest = digest

    def delete(self) -> None:
        """Deletes the model. Where it is loaded, ps goes on showing it."""
        self.present = False

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
            ("DELETE", "/api/delete"): self._delete,
            ("POST", "/api/chat"): self._chat,
            ("GET", "/v1/models"): self._openai_models,
            ("POST", "/v1/chat/completions"): self._openai_chat,
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
        for entry in body["models"]:
            entry.update(name=self.model, model=self.model, digest=self.digest, capabilities=list(self.capabilities))
            entry["details"]["context_length"] = self.context_length
        return json_response(body if self.present else {"models": []})

    async def _ps(self, _: Request) -> Response:
        if not self._residence.loaded() or self._residence.profile is None:
            return json_response(_recorded("life", "ps, nothing loaded"))
        body = _recorded("life", "ps, loaded")
        stays_s = min(YEARS_S, self._residence.expires_s - asyncio.get_running_loop().time())
        body["models"][0] |= {
            "name": self.model,
            "model": self.model,
            "digest": self._residence.digest,
            "expires_at": moment(datetime.now(UTC) + timedelta(seconds=stays_s)),
            "context_length": self._residence.profile["num_ctx"],
        }
        return json_response(body)

    async def _show(self, request: Request) -> Response:
        if not self._has(request.json()["model"]):
            return checks.missing(request.json()["model"])
        body = _recorded("life", "show")
        body["model_info"]["llama.context_length"] = self.context_length
        body["capabilities"] = list(self.capabilities)
        body["tensors"] = body["tensors"][:1] + body["tensors"][1:2] * 271  # as many as the recording leaves out
        return json_response(body)

    async def _delete(self, request: Request) -> Response:
        if not self._has(request.json()["model"]):
            return checks.missing(request.json()["model"])
        self.delete()
        return Response(200)

    async def _openai_models(self, _: Request) -> Response:
        body = _recorded("openai", "openai models")
        body["data"] = [body["data"][0] | {"id": self.model}] if self.present else None
        return json_response(body, content_type="application/json")

    async def _pull(self, request: Request) -> Response:
        progress: list[dict[str, Any]] = [{"status": "pulling manifest"}]
        if self.pull_error is None:
            layer = {"status": "pulling fd5f44c0b5af", "digest": "sha256:fd5f44c0b5af", "total": 98362745}
            progress += [layer, layer | {"completed": 50_000_000}, layer | {"completed": 98362745}]
            progress += [{"status": status} for status in ("verifying sha256 digest", "writing manifest", "success")]
            self.present = True
        else:
            progress.append({"error": self.pull_error})
        if not request.json().get("stream", True):
            status = 200 if self.pull_error is None else 500
            return json_response(progress[-1], status, "application/json")
        return _streamed(progress)

    async def _openai_chat(self, request: Request) -> Response:
        asked = request.json()
        if not self._has(asked["model"]):
            error = {
                "message": f"model '{asked['model']}' not found",
                "type": "not_found_error",
                "param": None,
                "code": None,
            }
            return json_response({"error": error}, 404, "application/json")
        question = from_openais_dialect(asked)
        self.questions.append(question)
        body, _ = await self._answered(question)
        return json_response(in_openais_dialect(body), content_type="application/json")

    async def _chat(self, request: Request) -> Response:
        try:
            question = checks.question_in(request)
            if question.get("messages"):
                return await self._asked(question)
            return await self._load_or_unload(question)
        except Complaint as complaint:
            return complaint.response
        except QueueFull:
            return json_response(_recorded("faults", "queue full while a model loads"), 503)

    async def _asked(self, question: dict[str, Any]) -> Response:
        self.questions.append(question)
        if self.replay is not None:
            return Response(
                self.replay["status"], recordings.body_of(self.replay), recordings.content_type_of(self.replay)
            )
        fault = self.fault_for(question["messages"])
        if fault is None:
            fault = self.faults.pop(0) if self.faults else self.always
        self.questions_in_flight += 1
        self.most_questions_in_flight = max(self.most_questions_in_flight, self.questions_in_flight)
        try:
            return await self._come_what_may(question, fault)
        finally:
            self.questions_in_flight -= 1

    async def _come_what_may(self, question: dict[str, Any], fault: Fault | None) -> Response:
        if fault is Fault.DELETED:
            self.delete()
        if fault is not None and (response := await instead(fault, question)) is not None:
            return response
        if not self._has(question["model"]):
            return checks.missing(question["model"])
        checks.check(question, self.model, self.capabilities)
        body, answer = await self._answered(question)
        if fault is Fault.CHANGED:
            self.retag()
        if fault is not None:
            body = SPOILS[fault](body, question)
            answer = written(body["message"]["content"], None)
        return _streamed(lines_of(body, answer.tokens)) if question.get("stream", True) else json_response(body)

    async def _load_or_unload(self, question: dict[str, Any]) -> Response:
        if not self._has(question["model"]):
            return checks.missing(question["model"])
        checks.check(question | {"messages": []}, self.model, self.capabilities)
        keep_s = checks.keep_s(question)
        if keep_s:
            async with self._residence.occupied(effective_options(question, self.context_length), self.digest, keep_s):
                done_reason = "load"
        else:
            await self._residence.leave()
            done_reason = "unload"
        body = {"model": self.model, "created_at": moment(), "message": message_of(""), "done": True}
        return json_response(body | {"done_reason": done_reason})

    async def _answered(self, question: dict[str, Any]) -> tuple[dict[str, Any], Written]:
        """Returns the whole answer, in the time that it takes."""
        options, begun_s = effective_options(question, self.context_length), asyncio.get_running_loop().time()
        async with self._residence.occupied(options, self.digest, checks.keep_s(question)) as load_s:
            prompt = fitted(question, options["num_ctx"])
            answer = answer_to(question, prompt, self._answer)
            await self._slots.serve(prompt.tokens, [*answer.tokens, ""][: answer.decoded_token_count()])
        thinks = "thinking" in self.capabilities and question.get("think") is not False
        return said(
            self.model,
            answer,
            prompt_token_count=len(prompt.tokens),
            thinking=THOUGHTS if thinks else "",
            top_logprobs=question.get("top_logprobs", 0) if question.get("logprobs") else None,
            load_s=load_s,
            work_s=asyncio.get_running_loop().time() - begun_s,
        ), answer

    def _has(self, model: str) -> bool:
        return self.present and model in (self.model, self.model.removesuffix(":latest"))


def _recorded(file: str, name: str) -> Any:
    """Returns the JSON of a recorded response, to be changed at will."""
    return copy.deepcopy(recordings.exchange(file, name)["response"]["json"])


def _streamed(lines: list[dict[str, Any]]) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for line in lines:
            yield ndjson([line])

    return Response(200, content_type="application/x-ndjson", pieces=pieces())
