"""What happens to a question inside an Ollama: its model is loaded, it waits for a slot, it is read and answered there.

Every slot keeps a cache of what it has read; only what is fresh to it costs time. Costs are stated, so that a test can
work out by itself what the best possible throughput is.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

TOKEN: Final = re.compile(r"<\|[^|<>\s]{1,40}\|>|[ \n]?(?:[^\W\d]{1,6}|\d|[^\w\s])|\s")
"""A special token, or up to six letters, one digit or one mark with the blank before it, or a blank."""

LEAST_SHARED: Final = 0.1
"""A slot is chosen for its cache only where that holds more than this share of the prompt; else the one idle longest."""

LOADED_AGAIN_FOR: Final = ("num_ctx", "num_batch", "num_thread", "num_gpu")


class QueueFull(Exception):
    """More wait for a load than the host takes."""


@dataclass(frozen=True)
class Costs:
    """What an answer takes. All in seconds."""

    fixed_s: float = 0.0
    prompt_token_s: float = 0.0  # for each token that the slot has not in its cache
    decoded_token_s: float = 0.0
    load_s: float = 0.0


@dataclass(frozen=True)
class Served:
    """One question that a slot has answered. Times are on `time.monotonic()`'s clock."""

    slot: int
    prompt_token_count: int
    fresh_token_count: int
    decoded_token_count: int
    arrived_s: float
    begun_s: float
    ended_s: float


@dataclass
class Slot:
    """A place at which one question is worked on at a time."""

    number: int
    cache: list[str] = field(default_factory=list)
    fresh_prompt_tokens: int = 0  # read so far, without what was in the cache
    busy: bool = False
    free_since_s: float = 0.0

    def shared(self, tokens: Sequence[str]) -> int:
        """Returns how many tokens from the beginning are in the cache."""
        for count, (kept, token) in enumerate(zip(self.cache, tokens, strict=False)):
            if kept != token:
                return count
        return min(len(self.cache), len(tokens))


class Slots:
    """The slots of one host, and the queue before them: without bound, first come, first served."""

    def __init__(self, count: int, costs: Costs) -> None:
        self.costs = costs
        self.slowness = 1.0
        self.slots = [Slot(number) for number in range(count)]
        self.served: list[Served] = []
        self._free = asyncio.Semaphore(count)

    async def serve(self, prompt: Sequence[str], decoded: Sequence[str]) -> Served:
        """Reads the prompt and writes the answer in a free slot, in the time that takes."""
        clock = asyncio.get_running_loop().time
        arrived_s = clock()
        async with self._free:
            slot = self._best(prompt)
            slot.busy = True
            # A slot that was awaited goes on at the moment it became free, whenever the event loop noticed.
            begun_s = max(arrived_s, slot.free_since_s)
            try:
                served = await self._work(slot, prompt, decoded, arrived_s, begun_s)
                slot.free_since_s = served.ended_s
            except asyncio.CancelledError:
                slot.free_since_s = clock()
                raise
            finally:
                slot.busy = False
        self.served.append(served)
        return served

    def forget(self) -> None:
        """Empties all caches, as a load does."""
        for slot in self.slots:
            slot.cache = []

    def _best(self, prompt: Sequence[str]) -> Slot:
        free = [slot for slot in self.slots if not slot.busy]
        best = max(free, key=lambda slot: slot.shared(prompt))
        if best.shared(prompt) > LEAST_SHARED * len(prompt):
            return best
        return min(free, key=lambda slot: slot.free_since_s)

    async def _work(
        self, slot: Slot, prompt: Sequence[str], decoded: Sequence[str], arrived_s: float, begun_s: float
    ) -> Served:
        shared = min(slot.shared(prompt), len(prompt) - 1)  # the last token is always read: it begins the answer
        fresh = len(prompt) - shared
        slot.cache = list(prompt[:shared])
        slot.fresh_prompt_tokens += fresh
        read_s = begun_s + self.slowness * (self.costs.fixed_s + fresh * self.costs.prompt_token_s)
        await _sleep_until(read_s)
        slot.cache = list(prompt)
        ended_s = read_s + self.slowness * len(decoded) * self.costs.decoded_token_s
        await _sleep_until(ended_s)
        slot.cache += decoded
        return Served(slot.number, len(prompt), fresh, len(decoded), arrived_s, begun_s, ended_s)


class Residence:
    """Whether the model is in memory, with which load profile, and until when.

    Questions go through one door: while one waits there for a load, those behind it wait too, whatever they want.
    """

    def __init__(self, slots: Slots, max_queue: int) -> None:
        self.loads = 0
        self.profile: dict[str, Any] | None = None  # None = not in memory
        self.digest = ""  # of what was loaded
        self._slots, self._max_queue = slots, max_queue
        self._door = asyncio.Lock()
        self._at_door = 0
        self._inside = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.expires_s = float("inf")

    def loaded(self) -> bool:
        """Returns whether the model is in memory now; forgets it where its time has run out."""
        if self.profile is not None and not self._inside and asyncio.get_running_loop().time() >= self.expires_s:
            self.profile = None
        return self.profile is not None

    @asynccontextmanager
    async def occupied(self, options: Mapping[str, Any], digest: str, keep_s: float) -> AsyncIterator[float]:
        """Holds the model in memory with these options; yields the seconds that loading it took.

        Raises:
            QueueFull: a load is under way, and too many wait for it.
        """
        load_s = await self._enter(options, digest)
        try:
            yield load_s
        finally:
            self._inside -= 1
            self.expires_s = asyncio.get_running_loop().time() + keep_s
            if not self._inside:
                self._quiet.set()

    async def leave(self) -> None:
        """Unloads the model, after what is being answered."""
        async with self._door:
            await self._quiet.wait()
            self.profile = None
            self._slots.forget()

    async def _enter(self, options: Mapping[str, Any], digest: str) -> float:
        if self._door.locked() and self._at_door > self._max_queue:
            raise QueueFull
        self._at_door += 1
        try:
            async with self._door:
                load_s = 0.0 if self._suits(options) else await self._load(options, digest)
                self._inside += 1
                self._quiet.clear()
                return load_s
        finally:
            self._at_door -= 1

    def _suits(self, options: Mapping[str, Any]) -> bool:
        if not self.loaded() or self.profile is None:
            return False
        wanted = _profile(options)
        if wanted["num_gpu"] is None:  # any number will do
            wanted["num_gpu"] = self.profile["num_gpu"]
        return wanted == self.profile

    async def _load(self, options: Mapping[str, Any], digest: str) -> float:
        await self._quiet.wait()
        self.profile = None
        self._slots.forget()
        load_s = self._slots.costs.load_s * self._slots.slowness
        await asyncio.sleep(load_s)
        self.loads += 1
        self.profile, self.digest = _profile(options), digest
        return load_s


def tokens_of(text: str, most: int | None = None) -> list[str]:
    """Returns a text's tokens, at most so many if that is given; joined they are the text."""
    return [found[0] for found in islice(TOKEN.finditer(text), most)]


def prompt_tokens(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a prompt's tokens, template included: four for each message's frame, and three that begin the answer."""
    tokens = []
    for message in messages:
        tokens += ["<|im_start|>", message["role"], "\n", *tokens_of(message["content"]), "<|im_end|>"]
    return [*tokens, "<|im_start|>", "assistant", "\n"]


def token_count(messages: Sequence[Mapping[str, Any]]) -> int:
    """Returns how many tokens a prompt has."""
    return len(prompt_tokens(messages))


def as_read(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Returns the turns that the model reads: a special token in a content begins or ends one there."""
    turns = [turn.partition("<|im_end|>")[0] for turn in _rendered(messages).split("<|im_start|>")[1:]]
    return [{"role": role, "content": content} for role, _, content in (turn.partition("\n") for turn in turns)]


def _rendered(messages: Sequence[Mapping[str, Any]]) -> str:
    """Returns messages as the template writes them. What a content has of special tokens becomes special tokens."""
    return "".join(f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>" for message in messages)


def _profile(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options.get(name) for name in LOADED_AGAIN_FOR}


async def _sleep_until(moment_s: float) -> None:
    """Sleeps on the running loop's clock. One in the past still lets others run."""
    await asyncio.sleep(max(0.0, moment_s - asyncio.get_running_loop().time()))
