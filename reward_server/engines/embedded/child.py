"""The process in which llama.cpp runs for the engine `embedded`: `python -m reward_server.engines.embedded.child`.

llama.cpp aborts the whole process when something is badly wrong inside it, so it never runs in the server's own. This
process loads one model and serves it by llama.cpp's HTTP server on a unix socket in a private folder: no port is
opened, and closing a streamed request's connection stops its generation. It is told what to do by the first line on its
standard input, a `LlamaOrder` as JSON, answers one line when the model is loaded, and ends when its standard input
does: so it never outlives the server, however that ended.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
BATCH_TOKENS: Final = 512
"""A prompt is read in pieces of this size; a cancelled one stops at the end of a piece."""


def main() -> int:
    """Loads the model, says so, and serves until standard input ends. Returns the exit code where loading fails."""
    order = json.loads(sys.stdin.readline())
    _die_with_parent(armed=True)  # loading holds the interpreter's lock: the end of standard input would go unseen
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever llama.cpp prints must not look like our answer
    try:
        server = _load(order)
    except Exception as error:  # noqa: BLE001  # whatever llama.cpp raised: the server shows it to a person
        print(json.dumps({"error": str(error)}), file=answers, flush=True)
        return 1
    _die_with_parent(armed=False)  # from here on standard input tells, and the folder is tidied up
    print(json.dumps({"address": server.listening_address}), file=answers, flush=True)
    sys.stdin.read()  # returns when the server closes it or is gone
    shutil.rmtree(Path(order["socket"]).parent, ignore_errors=True)
    os._exit(0)  # at once: the orderly way waits for the generations that are under way


def _load(order: dict[str, Any]) -> Any:
    """Loads the model and starts llama.cpp's server on the socket."""
    import xllamacpp  # noqa: PLC0415  # an optional package: its absence is an answer, not a crash at import

    params = xllamacpp.CommonParams()
    params.model.path = order["model"]
    if order["adapter"] is not None:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(order["adapter"], 1.0)]
    params.n_ctx = order["context_tokens"] * order["slots"]  # llama.cpp divides it among the slots
    params.n_parallel = order["slots"]
    params.n_batch = params.n_ubatch = BATCH_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = order["threads"]
    params.cache_ram_mib = 0  # each slot keeps its own last prompt; the cache beside them would grow to 8 GiB
    params.ctx_shift = False
    params.hostnames = [order["socket"]]
    params.ui = False
    params.verbosity = order["verbosity"]
    return xllamacpp.Server(params)


def _die_with_parent(*, armed: bool) -> None:
    """Asks Linux to kill this process when its parent dies, or no longer to."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL if armed else 0)


if __name__ == "__main__":
    sys.exit(main())
