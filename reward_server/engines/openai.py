"""The engine `openai`: a judge's model on any server that speaks OpenAI's `/chat/completions`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from reward_server.domain import HEALTHY, Health
from reward_server.engines import chat_completions
from reward_server.engines.base import Question
from reward_server.engines.complaints import Addressee, complaint_of, error_for
from reward_server.engines.credentials import Secret, http_url
from reward_server.engines.host import Host, Reply
from reward_server.engines.hosted import CHECK_TIMEOUT_S, HostedEngine, Said
from reward_server.errors import HostUnreachable, ModelMissing
from reward_server.options import Options

OWN_KEYS: Final = {"model", "messages", "temperature", "seed", "stream", "n", "response_format", "max_tokens"}
OLLAMA_SAYS: Final = "Ollama is running"
NOT_PORTABLE: Final = {"maxLength", "minimum", "maximum"}
"""Limits in a JSON schema that some servers refuse. The prompt tells them too, and the judge checks the answer."""


class OpenAIOptions(Options):
    """Options of the engine `openai`."""

    url: str = Field(description="the base URL; one without a path gets /v1")
    model: str = Field(min_length=1, description="the model's name as the server knows it")
    api_key_env: str | None = Field(None, description="environment variable that holds the API key")
    api_key_file: Path | None = Field(None, description="file with the API key")
    in_flight: int = Field(8, ge=1, le=4096, description="questions at the server at a time")
    structured: Literal["json_schema", "json_object", "none"] = Field(
        "json_schema",
        description="how an answer is held to its form; a server that can't do json_schema may do json_object",
    )
    token_limit: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="the request's key for the longest answer; some newer models want the second"
    )
    options: Mapping[str, Any] = Field(
        {}, description="further keys of the request, such as top_p or chat_template_kwargs"
    )

    @field_validator("url")
    @classmethod
    def _with_version(cls, url: str) -> str:
        url = http_url(url).removesuffix("/chat/completions")
        return url if urlsplit(url).path else f"{url}/v1"

    @field_validator("options")
    @classmethod
    def _none_of_ours(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        if ours := sorted(OWN_KEYS & options.keys()):
            raise ValueError(f"{', '.join(ours)}: set by the engine and the judge themselves")
        return options


class OpenAI(HostedEngine):
    """Answers questions by a model on a server that speaks OpenAI's API."""

    kind: ClassVar[str] = "openai"
    Options = OpenAIOptions

    def __init__(self, name: str, options: OpenAIOptions, folder: Path) -> None:
        super().__init__(name, f"engine `{name}` ({options.url})", options.in_flight)
        self._options = options
        self._key = Secret(f"engines.{name}", "api_key", options.api_key_env, options.api_key_file, folder)
        self._to = Addressee(
            self.label,
            options.model,
            model_mend=f"Mend engines.{name}.model",
            token_mend=f"engines.{name}.api_key_env",
        )
        self._root = options.url.removesuffix("/v1")
        self._prefix = options.url.removeprefix(self._root)
        self._served: Mapping[str, str] | None = None
        self._host: Host | None = None

    def identity(self) -> Mapping[str, Any]:
        """Returns where the model is, its name, its root where the server tells it, and all that shapes an answer.

        `served` is None until the server has been looked at, and where it lists no models. vLLM tells in `root` what it
        loaded under the name; others tell no more than the name.
        """
        return {
            "engine": self.kind,
            "url": self._options.url,
            "model": self._options.model,
            "served": self._served,
            "structured": self._options.structured,
            "options": dict(self._options.options),
        }

    async def _open(self) -> None:
        mend = f"Start the server there, or mend engines.{self.name}.url"
        self._host = Host(self.label, self._root, mend=mend, headers=self._key.bearer_header())
        self._host.open()

    async def _close(self) -> None:
        if self._host is not None:
            await self._host.close()

    async def _look(self) -> Health:
        """Asks for the models there are. Servers that keep no such list answer 404, which says no more than that."""
        models = await self._get(f"{self._prefix}/models")
        if models.status not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
            raise error_for(self._to, models.status, complaint_of(models))
        listed = _listed(models)
        if listed and self._options.model not in listed:
            raise ModelMissing(
                f"{self.label}: it has no model `{self._options.model}` (it has: {', '.join(list(listed)[:20])}). "
                f"{self._to.model_mend}"
            )
        self._served = listed.get(self._options.model)
        return await self._caution()

    async def _caution(self) -> Health:
        """Warns of an Ollama: its OpenAI endpoint cuts a prompt that is too long and says nothing."""
        root = await self._get("/")
        if root.text().startswith(OLLAMA_SAYS):
            return Health(
                serving=True,
                reason=f"{self.label}: this is an Ollama, whose OpenAI endpoint cuts long prompts in silence: "
                f"use `engines.{self.name}: {{ollama: {{url: …, model: {self._options.model}}}}}`",
            )
        return HEALTHY

    async def _get(self, path: str) -> Reply:
        if self._host is None:
            raise HostUnreachable(f"{self.label}: not started")
        return await self._host.request("GET", path, CHECK_TIMEOUT_S)

    async def _send(self, question: Question, timeout_s: float) -> Said:
        if self._host is None:
            raise HostUnreachable(f"{self.label}: not started")
        reply = await self._host.request("POST", f"{self._prefix}/chat/completions", timeout_s, self._body(question))
        return chat_completions.read(reply, self._to)

    def _body(self, question: Question) -> dict[str, Any]:
        body = {
            **self._options.options,
            **chat_completions.body(question),
            "model": self._options.model,
            self._options.token_limit: question.max_tokens,
        }
        if question.schema is not None and self._options.structured == "json_schema":
            body["response_format"] = chat_completions.schema_format(portable(question.schema))
        elif question.schema is not None and self._options.structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body


def portable(schema: Any) -> Any:
    """Returns the schema without the limits that some servers refuse."""
    if isinstance(schema, Mapping):
        return {key: portable(value) for key, value in schema.items() if key not in NOT_PORTABLE}
    if isinstance(schema, list):
        return [portable(value) for value in schema]
    return schema


def _listed(reply: Reply) -> dict[str, dict[str, str]]:
    """Returns id and root (where told) by name from a list of models, nothing where the reply is no such list."""
    try:
        models = json.loads(reply.text())["data"]
        return {
            str(model["id"]): {key: str(model[key]) for key in ("id", "root") if model.get(key)} for model in models
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
