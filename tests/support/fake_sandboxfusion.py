"""A SandboxFusion service for tests: really runs the programs (the tests' own), and can fail as a real one does.

Requests, statuses and fields as in github.com/bytedance/SandboxFusion, sandbox/server/sandbox_api.py and
sandbox/runners/base.py, with `isolation: none`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Any

from fake_host import FakeHost, HangUp, Request, Response, json_response

from reward_server.children import start_child

FIELDS = {
    "compile_timeout",
    "run_timeout",
    "memory_limit_MB",
    "code",
    "stdin",
    "language",
    "files",
    "fetch_files",
    "args",
}


class FakeSandboxFusion(FakeHost):
    """`faults` are served one each to the next requests: "error", "500", "html", "hang up", "timeout", "hang"."""

    def __init__(self, *faults: str, token: str | None = None) -> None:
        super().__init__()
        self.faults = list(faults)
        self._token = token

    async def answer(self, request: Request) -> Response:
        if self._token is not None and request.headers.get("authorization") != f"Bearer {self._token}":
            return Response(401, b"who are you?", "text/plain")
        if (request.method, request.path) != ("POST", "/run_code"):
            return json_response({"detail": "Not Found"}, 404)
        asked = request.json()
        if unknown := set(asked) - FIELDS:
            return json_response({"detail": f"the test's client sent {unknown}"}, 422)
        return await (self._failed(self.faults.pop(0)) if self.faults else self._ran(asked))

    async def _failed(self, fault: str) -> Response:
        match fault:
            case "error":
                said = {"status": "SandboxError", "message": "exception on running code", "run_result": None}
                return json_response({**said, "compile_result": None, "executor_pod_name": None, "files": {}})
            case "500":
                return Response(500, b"Internal Server Error", "text/plain; charset=utf-8")
            case "html":
                return Response(502, b"<html><h1>502 Bad Gateway</h1></html>", "text/html")
            case "hang up":
                raise HangUp
            case "timeout":
                result = {
                    "status": "TimeLimitExceeded",
                    "execution_time": 5.0,
                    "return_code": None,
                    "stdout": "",
                    "stderr": "",
                }
                return _answer("Failed", result)
            case _:
                await asyncio.sleep(3600)
                raise AssertionError

    async def _ran(self, asked: Mapping[str, Any]) -> Response:
        began = time.monotonic()
        pipe = asyncio.subprocess.PIPE
        process = await start_child(*(sys.executable, "-I", "-c", asked["code"]), stdin=pipe, stdout=pipe, stderr=pipe)
        try:
            async with asyncio.timeout(asked["run_timeout"]):
                out, err = await process.communicate((asked["stdin"] or "").encode())
        except TimeoutError:
            process.kill()
            out, err = await process.communicate()
            result = {"status": "TimeLimitExceeded", "return_code": None}
        except asyncio.CancelledError:  # the client has hung up
            process.kill()
            await process.wait()
            raise
        else:
            result = {"status": "Finished", "return_code": process.returncode}
        status = "Success" if result["return_code"] == 0 else "Failed"
        took = {"execution_time": time.monotonic() - began, "stdout": out.decode(), "stderr": err.decode()}
        return _answer(status, {**result, **took})


def _answer(status: str, result: Mapping[str, Any]) -> Response:
    said = {"status": status, "message": "", "compile_result": None, "run_result": result}
    return json_response({**said, "executor_pod_name": None, "files": {}})
