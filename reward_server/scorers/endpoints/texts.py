"""What a reward model's server is given of a sample: one text, a pair of texts, or the messages of a conversation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from reward_server.domain import Message, Sample, Verdict, failed
from reward_server.errors import ConfigError
from reward_server.judge.chat_text import conversation_of
from reward_server.judge.guard import REVISION, SURROGATES, TOKENS_FILE, break_tokens
from reward_server.scorers.base import MAX_REASON_CHARS
from reward_server.scorers.texts import NOT_A_TEXT
from reward_server.views import content_text, plain_text

InputForm = Literal["plain", "completion", "pair", "chat", "template"]
"""The prompt with the completion behind it, the completion alone, the two as a pair, messages, or by a template."""


@dataclass(frozen=True, slots=True)
class Single:
    """One text."""

    text: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and its completion."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation that the completion ends; the server writes it by its model's own template."""

    messages: list[dict[str, Any]]


Input = Single | Pair | Chat


class Texts:
    """Makes inputs of samples.

    Args:
        form: what they are to be.
        template: of the form `template`: the chat template, in Jinja, as tokenizers have it.
        variables: what the template may use besides the messages, such as bos_token.
        breaks: special tokens of chat templates inside completions are broken, so that none ends its own turn.
    """

    def __init__(self, form: InputForm, template: str, variables: Mapping[str, str], *, breaks: bool) -> None:
        self._form, self._template, self._variables, self._breaks = form, template, variables, breaks
        self._compiled = _compiled(template) if form == "template" else None

    def identity(self) -> Mapping[str, Any]:
        """Returns what shapes the texts besides the options."""
        identity: dict[str, Any] = {}
        if self._compiled is not None:
            identity["template"] = hashlib.sha256(self._template.encode()).hexdigest()
        if self._breaks:
            identity["guard"] = [REVISION, hashlib.sha256(TOKENS_FILE.read_bytes()).hexdigest()[:16]]
        return identity

    def of(self, sample: Sample) -> Input | Verdict:
        """Returns a sample's input, or the verdict on one that cannot be shown."""
        if self._form in ("chat", "template"):
            messages = [*_prompt_messages(sample), *self._completion_messages(sample)]
            return _rendered(self._compiled, messages, self._variables) if self._compiled else Chat(messages)
        if not isinstance(sample.completion, str):
            return NOT_A_TEXT
        completion = self._guarded(sample.completion)
        if self._form == "completion":
            return Single(completion)
        prompt = whole(plain_text(sample.prompt, "user"))
        return Pair(prompt, completion) if self._form == "pair" else Single(prompt + completion)

    def _completion_messages(self, sample: Sample) -> list[dict[str, Any]]:
        if isinstance(sample.completion, str):
            return [{"role": "assistant", "content": self._guarded(sample.completion)}]
        return [self._message(message) for message in sample.completion]

    def _message(self, message: Message) -> dict[str, Any]:
        return {**message, "content": self._guarded(content_text(message.get("content")))}

    def _guarded(self, text: str) -> str:
        return break_tokens(whole(text)) if self._breaks else whole(text)


def read_template(path: Path) -> str:
    """Returns the chat template in a file: Jinja, or a tokenizer_config.json that holds one. Raises `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if path.suffix == ".json":
        try:
            text = json.loads(text)["chat_template"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ConfigError(f"{path} has no text under `chat_template`") from error
        if not isinstance(text, str):
            raise ConfigError(f"{path} has several templates under `chat_template`: put one into a file of its own")
    try:
        _compiled(text)
    except TemplateError as error:
        raise ConfigError(f"{path} is no Jinja template: {error}") from error
    return text


def _compiled(template: str) -> Template:
    """Returns the template, ready; what it may do is what tokenizers let it do, and nothing outside of it."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _raise
    environment.filters["tojson"] = _to_json
    return environment.from_string(template)


def _rendered(template: Template, messages: list[dict[str, Any]], variables: Mapping[str, str]) -> Single | Verdict:
    try:
        return Single(template.render(messages=messages, add_generation_prompt=False, **variables))
    except Exception as error:  # noqa: BLE001  # whatever a template of somebody's raises
        said = f"the template cannot write this conversation: {type(error).__name__}: {error}"
        return failed(said[:MAX_REASON_CHARS])


def _raise(message: str) -> None:
    raise TemplateError(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _prompt_messages(sample: Sample) -> list[dict[str, Any]]:
    """Returns the prompt as a conversation; one that is chat-template text as the one that it was made of."""
    prompt = sample.prompt
    if prompt is None:
        return []
    if isinstance(prompt, str):
        prompt = conversation_of(prompt) or [{"role": "user", "content": prompt}]
    return [{**message, "content": whole(content_text(message.get("content")))} for message in prompt]


def whole(text: str) -> str:
    """Returns the text without halves of surrogate pairs, which are no text to most servers."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return SURROGATES.sub("\ufffd", text)
    return text
