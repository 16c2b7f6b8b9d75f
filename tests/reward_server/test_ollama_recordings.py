"""Every exchange recorded from a real Ollama is read to what it means. A recording without a line here fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import recordings
from fake_ollama import MODEL, FakeOllama

from reward_server.engines import chat_completions
from reward_server.engines.base import ChatMessage, Question
from reward_server.engines.complaints import Addressee
from reward_server.engines.host import Reply
from reward_server.engines.ollama import Ollama
from reward_server.errors import BadAnswer, HostBusy, HostFailed, HostRefused, ModelMissing, PromptTooLong

# Answers: (begin of the text, how it ended, tokens read, tokens written). Errors: (class, words of the message).
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


def recorded(where: str) -> dict[str, Any]:
    file, _, name = where.partition("/")
    return recordings.exchange(file, name)["response"]


def test_every_recording_has_its_line() -> None:
    files = ("life", "chat", "errors", "context", "reload", "openai", "faults")
    there = {f"{file}/{exchange['name']}" for file in files for exchange in recordings.exchanges(file)}
    assert there == CHAT.keys() | OPENAI.keys() | ELSEWHERE.keys()


@pytest.fixture(scope="module")
def host() -> Iterator[FakeOllama]:
    with FakeOllama() as running:
        yield running


@pytest.mark.parametrize("where", CHAT)
async def test_ollama_reads_a_recorded_chat(where: str, host: FakeOllama, tmp_path: Path) -> None:
    engine = Ollama("box", Ollama.Options(model=MODEL, url=host.url), tmp_path)
    await engine.start()
    host.replay = recorded(where)
    try:
        question = Question((ChatMessage("user", "hi"),), max_tokens=4)
        if isinstance(CHAT[where][0], type):
            error, words = CHAT[where]
            with pytest.raises(error) as raised:
                await engine.ask(question, 30)
            assert type(raised.value) is error
            assert words in str(raised.value)
            assert "engine `box`" in str(raised.value)
        else:
            answer = await engine.ask(question, 30)
            text, *rest = CHAT[where]
            assert answer.text.startswith(text)
            assert [answer.finish, answer.prompt_token_count, answer.decoded_token_count] == rest
    finally:
        host.replay = None
        await engine.close()


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
        said = chat_completions.read(reply, to)
        text, *rest = OPENAI[where]
        assert said.text.startswith(text)
        assert [said.finish, said.prompt_token_count, said.decoded_token_count] == rest
