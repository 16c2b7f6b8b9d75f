"""Every exchange recorded from a real Ollama is read to what it means. A recording without a line here fails."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import recordings
from fake_host import FakeHost, Request, Response
from fake_ollama import FakeOllama

from reward_server.engines.base import Answer, ChatMessage, Place, Question
from reward_server.engines.ollama.engine import Ollama
from reward_server.engines.ollama.host import OllamaHost
from reward_server.engines.ollama.options import OllamaOptions
from reward_server.engines.over_http import chat_completions
from reward_server.errors import (
    BadAnswer,
    EngineError,
    HostBusy,
    HostFailed,
    HostRefused,
    ModelMissing,
    PromptTooLong,
)
from reward_server.http.complaints import Addressee
from reward_server.http.credentials import Secret
from reward_server.http.host import Reply

MODEL = "smollm2:135m"

# Answers: (begin of the text, how it ended, tokens read, tokens written). Errors: (class, words of the message).
# The class says what happens next: see NEXT below.
CHAT: dict[str, tuple[Any, ...]] = {
    "chat/plain": ("No, Paris is", "length", 21, 4),
    "chat/stop by length": ("The story of", "length", 15, 3),
    "chat/stop sequence": ("The number of ways", "length", 17, 40),
    "chat/streamed": ("No, Paris is", "length", 21, 4),
    "chat/schema": ('{\n  "reason": "Paris is the capital of France.",\n  "score": 1\n}', "stop", 28, 22),
    "chat/schema, cut by length": ('{\n  "reason": "', "length", 28, 6),
    "chat/format json": ('{\n  "score": 100\n}', "stop", 19, 12),
    "chat/enum schema": ('"yes"', "stop", 21, 4),
    "chat/logprobs": ("No", "length", 21, 1),
    "chat/logprobs under an enum schema": ('"yes"', "stop", 21, 4),
    "chat/logprobs at temperature 2": ("No", "length", 21, 1),
    "chat/logprobs without top": ("No,", "length", 21, 2),
    "chat/top_logprobs without logprobs": ("No", "length", 21, 1),
    "chat/num_predict 0": ("No, Paris is not the capital", "stop", 21, 30),
    "chat/assistant prefill": ("Paris is indeed the", "length", 26, 4),
    "chat/system message": ("To find the answer", "length", 23, 4),
    "context/over num_ctx 256, default": ("The lazy dog the", "length", 130, 4),
    "context/over num_ctx 256, truncate false": (PromptTooLong, "the prompt has 910 tokens, the context is 256 tokens"),
    "context/over, several messages": ("i'm glad i", "length", 33, 4),
    "context/over, several messages, truncate false": (PromptTooLong, "the prompt has 336 tokens, the context is 256"),
    "context/fits, generation runs over, default": ("The quick brown fox", "length", 241, 120),
    "context/fits, generation runs over, shift false": ("The quick brown fox", "length", 241, 15),
    "context/over 32768": (PromptTooLong, "the prompt has 40006 tokens, the context is 2048 tokens"),
    "context/num_ctx over the model's own": ("No, Paris is", "length", 21, 4),
    "errors/missing model": (ModelMissing, "model 'nosuch:1b' not found). Run `reward-server judge pull`"),
    "errors/no model": (HostRefused, "answered 400: model is required"),
    "errors/not json": (HostRefused, "answered 400: invalid character 'n' looking for beginning"),
    "errors/empty body": (HostRefused, "answered 400: missing request body"),
    "errors/option of wrong type": (HostRefused, 'answered 500: option "num_ctx" must be of type integer'),
    "errors/unknown option": ("No, Paris is", "length", 21, 4),
    "errors/unknown field": ("No, Paris is", "length", 21, 4),
    "errors/bad format": (HostRefused, 'answered 500: invalid format: "\\"xml\\""; expected "json"'),
    "errors/bad schema": (
        HostRefused,
        "answered 400: Field 'json_schema': \"json_schema\": JSON schema conversion failed",
    ),
    "errors/schema with unresolvable ref": (HostRefused, "Error resolving ref #/$defs/none"),
    "errors/top_logprobs 21": (HostRefused, "top_logprobs must be between 0 and 20"),
    "errors/top_logprobs -1": (HostRefused, "top_logprobs must be between 0 and 20"),
    "errors/think on a model that can't": (HostRefused, '"smollm2:135m" does not support thinking'),
    "errors/think false": ("No, Paris is", "length", 21, 4),
    "errors/think low": (HostRefused, '"smollm2:135m" does not support thinking'),
    "errors/tools on a model that can't": (HostRefused, "does not support tools"),
    "errors/unknown role": ("Hi, I'm", "length", 11, 4),
    "errors/bad keep_alive": (HostRefused, 'time: invalid duration "soon"'),
    "errors/negative num_ctx": ("\n#include", "length", 3, 4),
    "errors/lone surrogate escape": ("The sentence is a", "length", 13, 4),
    "errors/invalid utf-8": ("The original sentence is", "length", 13, 4),
    "errors/nul and control characters": ("The sentence is:", "length", 19, 4),
    "errors/special tokens in content": ("The answer is no", "length", 29, 4),
    "errors/image on a text model": (HostRefused, "Multimodal data provided, but model does not support"),
    "errors/unknown path": (HostRefused, "answered 404: 404 page not found. Nothing at this URL knows the API"),
    "errors/wrong method": (HostRefused, "answered 405: 405 method not allowed. Nothing at this URL knows the API"),
    "faults/queue full while a model loads": (HostBusy, "server busy, please try again."),
    "faults/inference process killed during a request": (HostFailed, "unexpected EOF"),
    "faults/inference process killed during a streamed request": (HostFailed, "unexpected EOF"),
    "life/unload": (BadAnswer, "the answer ended by 'unload'"),
    "life/load": (BadAnswer, "the answer ended by 'load'"),
} | {f"reload/{exchange['name']}": ("", "length", 21, 4) for exchange in recordings.exchanges("reload")}

OPENAI: dict[str, tuple[Any, ...]] = {
    "openai/openai plain": ("No, Paris is", "length", 19, 4),
    "openai/openai logprobs": ("No", "length", 19, 1),
    "openai/openai json_schema": ('{\n  "reason": "2022', "length", 14, 60),
    "openai/openai n=2": ("In the", "length", 10, 2),
    "openai/openai missing model": (ModelMissing, "it has no model `nosuch` (model 'nosuch' not found)"),
    "openai/openai over-long": ("To be", "length", 2050, 2),
}

ELSEWHERE = {
    "life/root": "what `openai` looks for to warn of an Ollama",
    "life/version": "not used: a build from source calls itself 0.0.0",
    "life/tags": "check, in test_ollama_engine",
    "life/show": "check, in test_ollama_engine",
    "life/show, missing model": "check, in test_ollama_engine",
    "life/ps, nothing loaded": "not used",
    "life/ps, loaded": "not used",
    "context/ps after that": "not used",
    "errors/delete missing model": "not used: the server deletes nothing",
    "errors/pull, unreachable": "pull, in test_ollama_engine",
    "errors/pull, unreachable, not streamed": "not used: pulls are streamed",
    "openai/openai models": "check, in test_openai_engine",
}


# What comes next after an error: whether it is raised at once, whether it is an attempt, and whether its host is out.
NEXT: dict[type[EngineError], str] = {
    PromptTooLong: "raised",
    HostRefused: "raised",
    BadAnswer: "asked again",
    HostFailed: "asked again",
    HostBusy: "host out",
    ModelMissing: "host out",
}

# Where log-probabilities were asked for: the tokens written, how many are listed at each, and the first logarithm.
LOGPROBS: dict[str, tuple[list[str], list[int], float]] = {
    "chat/logprobs": (["No"], [20], -0.767717),
    # Listed before the grammar: the first quote, which it forced, is none of the twenty and stands beside them.
    "chat/logprobs under an enum schema": (['"', "yes", '"'], [21, 20, 20], -6.667400),
    "chat/logprobs at temperature 2": (["No"], [3], -0.767753),
    "chat/logprobs without top": (["No", ","], [1, 1], -0.767753),
    "openai/openai logprobs": (["No"], [5], -0.939691),
}


def recorded(where: str) -> dict[str, Any]:
    file, _, name = where.partition("/")
    return recordings.exchange(file, name)["response"]


def test_every_recording_has_its_line() -> None:
    files = ("life", "chat", "errors", "context", "reload", "openai", "faults")
    there = {f"{file}/{exchange['name']}" for file in files for exchange in recordings.exchanges(file)}
    assert there == CHAT.keys() | OPENAI.keys() | ELSEWHERE.keys()


def asks_for_logprobs(where: str) -> bool:
    file, _, name = where.partition("/")
    return recordings.exchange(file, name)["request"].get("json", {}).get("logprobs") is True


def test_every_recording_with_log_probabilities_has_its_line() -> None:
    answered = {where for where in CHAT | OPENAI if not isinstance((CHAT | OPENAI)[where][0], type)}
    assert {where for where in answered if asks_for_logprobs(where)} == LOGPROBS.keys()


def test_every_error_has_what_comes_next() -> None:
    assert {line[0] for line in (CHAT | OPENAI).values() if isinstance(line[0], type)} == NEXT.keys()


class Replaying(FakeHost):
    """Answers everything as recorded."""

    recorded: Any

    async def answer(self, _: Request) -> Response:
        body, content_type = recordings.body_of(self.recorded), recordings.content_type_of(self.recorded)
        return Response(self.recorded["status"], body, content_type)


@pytest.fixture(scope="module")
def replaying() -> Iterator[Replaying]:
    with Replaying() as running:
        yield running


@pytest.fixture
async def host(replaying: Replaying) -> AsyncIterator[OllamaHost]:
    options = OllamaOptions(model=MODEL, url=replaying.url)
    host = OllamaHost("box", replaying.url, options, Secret("engines.box", "token", None, None, Path()))
    await host.open()
    yield host
    await host.close()


def agrees(answer: Answer, where: str) -> None:
    """Asserts that an answer is what its line says."""
    text, *rest = (CHAT | OPENAI)[where]
    assert answer.text.startswith(text)
    assert [answer.finish, answer.prompt_token_count, answer.decoded_token_count] == rest
    if where not in LOGPROBS:
        assert answer.positions == ()
        return
    tokens, listed, first = LOGPROBS[where]
    assert [position.token for position in answer.positions] == tokens
    assert [len(position.logprobs) for position in answer.positions] == listed
    assert math.isclose(answer.positions[0].logprobs[tokens[0]], first, abs_tol=1e-6)
    for position in answer.positions:
        assert sum(map(math.exp, position.logprobs.values())) <= 1.0
        assert list(position.logprobs.values()) == sorted(position.logprobs.values(), reverse=True)


@pytest.mark.parametrize("where", CHAT)
async def test_ollama_reads_a_recorded_chat(where: str, replaying: Replaying, host: OllamaHost) -> None:
    replaying.recorded = recorded(where)
    question = Question((ChatMessage("user", "hi"),), max_tokens=4)
    if isinstance(CHAT[where][0], type):
        error, words = CHAT[where]
        with pytest.raises(error) as raised:
            await host.send(question, 30)
        assert type(raised.value) is error
        assert words in str(raised.value)
        assert "engine `box`" in str(raised.value)
    else:
        agrees(await host.send(question, 30), where)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[tuple[FakeOllama, Ollama]]:
    with FakeOllama() as fake:
        engine = Ollama("box", OllamaOptions(model=MODEL, url=fake.url, in_flight=1), tmp_path)
        await engine.start()
        fake.questions.clear()
        yield fake, engine
        await engine.close()


@pytest.mark.parametrize("where", [where for where, line in CHAT.items() if isinstance(line[0], type)])
async def test_after_a_recorded_error_comes_what_its_class_says(where: str, engine: tuple[FakeOllama, Ollama]) -> None:
    async def work(place: Place) -> Answer:
        return await place.ask(Question((ChatMessage("user", "hi"),), max_tokens=4))

    fake, pool = engine
    fake.replay = recorded(where)
    deadline = time.monotonic() + 60
    with pytest.raises(EngineError) as raised:
        await pool.run(work, affinity="", deadline=lambda: deadline, patience_s=0.0, attempts=2)
    asked = sum(question["messages"][0]["content"] == "hi" for question in fake.questions)
    outcome = (asked, raised.value.attempts)
    assert outcome == {"raised": (1, 0), "asked again": (2, 2), "host out": (1, 0)}[NEXT[CHAT[where][0]]]


@pytest.mark.parametrize(
    ("where", "counts"),
    [
        ("context/over num_ctx 256, truncate false", (910, 256)),
        ("context/over, several messages, truncate false", (336, 256)),
        ("context/over 32768", (40006, 2048)),
    ],
)
async def test_a_prompt_too_long_carries_both_counts(
    where: str, counts: tuple[int, int], replaying: Replaying, host: OllamaHost
) -> None:
    replaying.recorded = recorded(where)
    with pytest.raises(PromptTooLong) as raised:
        await host.send(Question((ChatMessage("user", "hi"),), max_tokens=4), 30)
    assert (raised.value.prompt_token_count, raised.value.context_tokens) == counts


@pytest.mark.parametrize("where", ["context/over num_ctx 256, default", "context/over, several messages"])
async def test_a_prompt_that_the_host_has_cut_is_no_answer(where: str, replaying: Replaying, host: OllamaHost) -> None:
    replaying.recorded = recorded(where)
    with pytest.raises(
        HostRefused, match=r"it has cut the prompt in silence: it read \d+ tokens of a prompt of 300 words"
    ):
        await host.send(Question((ChatMessage("user", "The quick fox " * 100),), max_tokens=4), 30)


@pytest.mark.parametrize("where", OPENAI)
def test_the_dialect_of_openai_reads_a_recorded_chat(where: str) -> None:
    response = recorded(where)
    reply = Reply(response["status"], recordings.content_type_of(response), recordings.body_of(response))
    to = Addressee("engine `any`", "nosuch", model_mend="Mend it", token_mend="")
    if isinstance(OPENAI[where][0], type):
        error, words = OPENAI[where]
        with pytest.raises(error) as raised:
            chat_completions.read(reply, to)
        assert words in str(raised.value)
    else:
        agrees(chat_completions.read(reply, to), where)
