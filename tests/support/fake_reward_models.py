"""Servers of reward models for tests: real HTTP, and answers field by field as the real ones write them.

A text's worth is its length by default. Texts with certain words do certain things, see the constants.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

from fake_host import FakeHost, HangUp, Request, Response, json_response

BREAKS = "<break>"  # the server answers 500 to a request that has a text with this
REFUSED = "<refuse>"  # 400
HANGS = "<hang>"  # never answers
KILLS = "<kill>"  # the connection breaks
NULL = "<null>"  # this text's number is null, as orjson writes NaN


class FakeModel(FakeHost):
    """What all of them share. `worth` gives a text its number; `fault` is answered to the next requests in turn."""

    def __init__(self, worth: Callable[[str], float] = len, most_chars: int = 10_000) -> None:
        super().__init__()
        self.worth = worth
        self.most_chars = most_chars
        self.faults: list[Response | type[HangUp]] = []
        self.always: Response | None = None  # answered to every request for rewards
        self.model = "org/reward-model"
        self.token = ""

    @property
    def asked(self) -> list[Any]:
        """The bodies of the requests for rewards."""
        return [request.json() for request in self.requests if request.method == "POST"]

    async def answer(self, request: Request) -> Response:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return json_response({"error": "Unauthorized"}, 401)
        if request.method == "GET":
            return self.look(request.path)
        if self.faults:
            fault = self.faults.pop(0)
            if not isinstance(fault, Response):
                raise fault
            return fault
        return self.always or await self.answer_to(request.path, request.json())

    async def answer_to(self, path: str, body: Any) -> Response:
        texts = self.texts(body)
        whole = "".join(texts)
        if HANGS in whole:
            await asyncio.sleep(3600)
        if KILLS in whole:
            raise HangUp
        if BREAKS in whole:
            return self.broken()
        if REFUSED in whole:
            return self.refused()
        if longest := next((text for text in texts if len(text) > self.most_chars), None):
            return self.too_long(len(longest))
        return self.rewards(path, body, [None if NULL in text else self.worth(text) for text in texts])

    def look(self, path: str) -> Response:
        return json_response({"detail": "Method Not Allowed"}, 405)

    def texts(self, body: Any) -> list[str]:
        raise NotImplementedError

    def rewards(self, path: str, body: Any, numbers: list[float | None]) -> Response:
        raise NotImplementedError

    def broken(self) -> Response:
        return Response(500, b"Internal Server Error", "text/plain; charset=utf-8")  # as Starlette

    def refused(self) -> Response:
        return json_response({"detail": [{"loc": ["body"], "msg": "Field required", "type": "missing"}]}, 422)

    def too_long(self, chars: int) -> Response:
        return json_response({"detail": "too long"}, 413)


class FakeGetReward(FakeModel):
    """OpenRLHF's `/get_reward`."""

    extra: dict[str, Any] = {}

    def texts(self, body: Any) -> list[str]:
        return body["query"]

    def rewards(self, path: str, body: Any, numbers: list[float | None]) -> Response:
        if path != "/get_reward":
            return json_response({"detail": "Not Found"}, 404)
        return json_response({"rewards": numbers, **self.extra})


class FakeVllm(FakeModel):
    """vLLM with a classifier or a reward model."""

    rows = 1
    listed: list[str] | None = None

    def look(self, path: str) -> Response:
        assert path == "/v1/models"
        names = [self.model] if self.listed is None else self.listed
        card = {"object": "model", "created": 1, "owned_by": "vllm", "parent": None, "max_model_len": 4096}
        data = [{"id": name, "root": f"/models/{self.model}", "permission": [], **card} for name in names]
        return json_response({"object": "list", "data": data})

    def texts(self, body: Any) -> list[str]:
        if "messages" in body:
            return ["".join(message["content"] for message in body["messages"])]
        if "text_1" in body:
            return [f"{first}|{second}" for first, second in zip(body["text_1"], body["text_2"], strict=True)]
        return body["input"]

    def rewards(self, path: str, body: Any, numbers: list[float | None]) -> Response:
        items = [self.item(path, index, number) for index, number in enumerate(numbers)]
        usage = {"prompt_tokens": 7, "total_tokens": 7, "completion_tokens": 0, "prompt_tokens_details": None}
        answer = {"id": "x-1", "object": "list", "created": 1, "model": self.model, "data": items, "usage": usage}
        return json_response(answer)

    def item(self, path: str, index: int, number: float | None) -> dict[str, Any]:
        match path:
            case "/classify":
                return {"index": index, "label": "LABEL_0", "probs": self.classes(number), "num_classes": 1}
            case "/pooling":
                return {"index": index, "object": "pooling", "data": self.pooled(number)}
            case "/score":
                return {"index": index, "object": "score", "score": number}
        raise AssertionError(path)

    def classes(self, number: float | None) -> list[float | None]:
        return [number]

    def pooled(self, number: float | None) -> Any:
        return [number] if self.rows == 1 else [[row, number] for row in range(self.rows)]

    def too_long(self, chars: int) -> Response:
        message = (
            f"You passed {chars} input tokens and requested 0 output tokens. However, the model's context length is "
            f"only {self.most_chars} tokens, resulting in a maximum input length of {self.most_chars} tokens. Please "
            f"reduce the length of the input prompt. (parameter=input_tokens, value={chars})"
        )
        return self.bad_request(message)

    def refused(self) -> Response:
        return self.bad_request("1 validation error for ValidatorIterator")

    def bad_request(self, message: str) -> Response:
        error = {"message": message, "type": "BadRequestError", "param": "input_tokens", "code": 400}
        return json_response({"error": error}, 400)

    def broken(self) -> Response:
        error = {
            "message": "EngineCore encountered an issue.",
            "type": "InternalServerError",
            "param": None,
            "code": 500,
        }
        return json_response({"error": error}, 500)


class FakeTei(FakeModel):
    """Text Embeddings Inference with a classifier."""

    most_in_batch = 32
    labels = ("LABEL_0",)

    def look(self, path: str) -> Response:
        assert path == "/info"
        return json_response(
            {
                "model_id": self.model,
                "model_sha": "c0ffee",
                "model_dtype": "float16",
                "model_type": {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
                "max_concurrent_requests": 512,
                "max_input_length": 512,
                "max_batch_tokens": 16384,
                "max_batch_requests": None,
                "max_client_batch_size": self.most_in_batch,
                "auto_truncate": True,
                "tokenization_workers": 2,
                "version": "1.8.0",
                "sha": "abc",
                "docker_label": None,
            }
        )

    def texts(self, body: Any) -> list[str]:
        assert body["raw_scores"] is True
        assert "truncate" in body, "newer releases cut in silence where it is left out"
        assert all(isinstance(entry, list) and len(entry) in (1, 2) for entry in body["inputs"])
        return ["|".join(entry) for entry in body["inputs"]]

    def rewards(self, path: str, body: Any, numbers: list[float | None]) -> Response:
        assert path == "/predict"
        if len(numbers) > self.most_in_batch:
            return self.invalid(f"batch size {len(numbers)} > maximum allowed batch size {self.most_in_batch}")
        if None in numbers:
            return json_response({"error": "score is NaN", "error_type": "Backend"}, 424)
        classes = [
            [{"score": number - place, "label": label} for place, label in enumerate(self.labels)] for number in numbers
        ]
        return json_response([sorted(item, key=lambda one: -one["score"]) for item in classes])

    def too_long(self, chars: int) -> Response:
        return self.invalid(f"`inputs` must have less than {self.most_chars} tokens. Given: {chars}")

    def invalid(self, message: str) -> Response:
        return json_response({"error": f"Input validation error: {message}", "error_type": "Validation"}, 413)

    def refused(self) -> Response:
        return json_response({"error": "Tokenization error: no", "error_type": "Tokenizer"}, 422)

    def broken(self) -> Response:
        return json_response({"error": "DriverError(CUDA_ERROR)", "error_type": "Backend"}, 424)


class FakeLlamaCpp(FakeModel):
    """llama.cpp's server with a model that ranks: answers are sorted."""

    loading = False
    ranks = True

    async def answer(self, request: Request) -> Response:
        if self.loading:
            return self.error(503, "Loading model", "unavailable_error")
        if request.method == "POST" and not self.ranks:
            words = "This server does not support reranking. Start it with `--reranking`"
            return self.error(501, words, "not_supported_error")
        return await super().answer(request)

    def look(self, path: str) -> Response:
        assert path == "/v1/models"
        meta = {"vocab_type": 3, "n_vocab": 250002, "n_ctx_train": 8192, "n_embd": 1024, "n_params": 5, "size": 6}
        model = {"id": self.model, "object": "model", "created": 1, "owned_by": "llamacpp", "meta": meta}
        return json_response({"object": "list", "data": [model]})

    def texts(self, body: Any) -> list[str]:
        assert isinstance(body["query"], str)
        return [f"{body['query']}|{document}" for document in body["documents"]]

    def rewards(self, path: str, body: Any, numbers: list[float | None]) -> Response:
        assert path == "/v1/rerank"
        results = [{"index": index, "relevance_score": number} for index, number in enumerate(numbers)]
        results.sort(key=lambda item: -math.inf if item["relevance_score"] is None else -item["relevance_score"])
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        return json_response({"model": self.model, "object": "list", "usage": usage, "results": results})

    def error(self, status: int, message: str, kind: str) -> Response:
        return json_response({"error": {"code": status, "message": message, "type": kind}}, status)

    def too_long(self, chars: int) -> Response:
        words = "is too large to process. increase the physical batch size"
        return self.error(
            500, f"input ({chars} tokens) {words} (current batch size: {self.most_chars})", "server_error"
        )

    def refused(self) -> Response:
        return self.error(400, '"documents" must be a non-empty string array', "invalid_request_error")

    def broken(self) -> Response:
        return self.error(500, "Compute error.", "server_error")


def html_page(status: int = 200) -> Response:
    """Returns what a proxy or another website answers."""
    return Response(status, b"<html><title>Welcome</title><body>Log in</body></html>", "text/html")


def raw_json(text: str) -> Response:
    """Returns a body that only calls itself JSON."""
    return Response(200, text.encode(), "application/json")


def text_of(body: Any) -> str:
    """Returns a request's body as a text, to look for words in it."""
    return json.dumps(body, ensure_ascii=False)
