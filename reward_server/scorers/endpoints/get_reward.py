"""Somebody's own reward server, spoken to as OpenRLHF speaks to a remote reward model.

    rewards:
      theirs: {endpoint: "http://box:5000/get_reward"}
      checked:
        endpoint: {url: "http://box:5000", reference_column: answer, score_range: [0, 1], token_env: BOX_TOKEN}

One request is `{"query": [...], "prompts": [...], "labels": [...]}`, its answer `{"rewards": [...]}`, a number for each
query. `scores` and the lists in `extra_logs` become parts of the verdicts.

Columns: the reference, if one is named. Range: as declared. Cost class: judge (something else is asked).
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from reward_server.domain import Blame, Call, Needs, Sample, Verdict, abstained, failed, scored
from reward_server.errors import HostUnreachable
from reward_server.http.complaints import Addressee, complaint_of, excerpt
from reward_server.http.credentials import Secret, http_url
from reward_server.http.host import Host
from reward_server.options import ScoreRange
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.endpoints.asking import PLAIN, Asking
from reward_server.scorers.endpoints.options import RemoteOptions
from reward_server.scorers.endpoints.protocols.base import json_in
from reward_server.scorers.endpoints.protocols.openrlhf import PATH, reward_from, rewards_in
from reward_server.scorers.endpoints.remote import Remote, RemoteScorer
from reward_server.scorers.endpoints.texts import whole
from reward_server.scorers.texts import NOT_A_TEXT
from reward_server.views import plain_text
from reward_server.workers.calling import listed_parts

GATEWAY_TROUBLE: Final = (502, 503, 504)


class EndpointOptions(RemoteOptions):
    """Options of the scorer `endpoint`."""

    shorthand: ClassVar[str | None] = "url"

    url: str = Field(description="where it takes requests; one without a path gets /get_reward")
    reference_column: str | None = Field(
        None, description="column that is sent as `labels`; absent: empty labels, as OpenRLHF does"
    )
    score_range: ScoreRange | None = Field(
        None, description="its smallest and largest reward; one outside is no score; absent: unknown"
    )

    @field_validator("url")
    @classmethod
    def _with_path(cls, url: str) -> str:
        url = http_url(url)
        return url if urlsplit(url).path else url + PATH


class Endpoint(RemoteScorer):
    """Scores by asking somebody's own reward server."""

    kind: ClassVar[str] = "endpoint"
    Options = EndpointOptions

    def __init__(self, options: EndpointOptions, context: ScorerContext) -> None:
        self._options = options
        self.score_range: tuple[float, float] | None = options.score_range
        columns = frozenset(filter(None, (options.reference_column,)))
        self.needs = Needs(required_columns=columns, prompts=True)
        place = f"rewards.{context.reward_name}.endpoint"
        self._label = f"reward `{context.reward_name}` ({options.url})"
        self._secret = Secret(place, "token", options.token_env, options.token_file, context.folder)
        self._mend = f"Start the server there, or mend {place}.url"
        to = Addressee(self._label, "", model_mend=self._mend, token_mend=f"{place}.token_env")
        super().__init__(to, context)

    async def start(self) -> None:
        """Looks whether anybody answers there. Raises `ConfigError` where the token can't be read."""
        host = Host(self._label, self._options.url, mend=self._mend, headers=self._secret.bearer_header())
        await self._open(Remote(host, self._to, self._options.in_flight, self._look))

    def identity(self) -> Mapping[str, Any]:
        """Returns nothing: what stands behind the URL is known to nobody here."""
        return {}

    async def _look(self) -> None:
        """Sees whether there is a server. That a GET is not what it wants says that there is one."""
        reply = await self._remote.get("")
        if reply.status in GATEWAY_TROUBLE:
            raise HostUnreachable(f"{self._label}: answered {reply.status}: {complaint_of(reply).message}")

    async def score(self, samples: Sequence[Sample], call: Call) -> AsyncGenerator[tuple[int, Verdict], None]:
        """Yields the verdicts as the server gives them."""
        askable = []
        for index, sample in enumerate(samples):
            if (missing := self._not_asked(sample)) is None:
                askable.append(index)
            else:
                yield index, missing
        parts = [askable[start : start + self._options.batch] for start in range(0, len(askable), self._options.batch)]
        column = self._options.reference_column
        plain = PLAIN if column is None else replace(PLAIN, columns={column: "Paris"})
        asking = Asking(self._remote, self._ask, samples, call, timeout_s=self._options.timeout_s, plain=plain)
        async with aclosing(asking.score(parts)) as verdicts:
            async for ready in verdicts:
                yield ready

    def _not_asked(self, sample: Sample) -> Verdict | None:
        column = self._options.reference_column
        if column is not None and sample.columns.get(column) is None:
            return abstained(f"this sample has no reference: its column `{column}` is empty", blame=Blame.REFERENCE)
        return None if isinstance(sample.completion, str) else NOT_A_TEXT

    async def _ask(self, samples: Sequence[Sample], timeout_s: Callable[[], float], tries: int) -> Sequence[Verdict]:
        reply = await self._remote.post("", self._body(samples), timeout_s, tries)
        said = json_in(reply, self._to)
        rewards = rewards_in(said, len(samples), self._label)
        return [self._verdict(*told) for told in zip(rewards, listed_parts(said, len(samples)), strict=True)]

    def _body(self, samples: Sequence[Sample]) -> dict[str, Any]:
        prompts = [whole(plain_text(sample.prompt, "user")) for sample in samples]
        column = self._options.reference_column
        return {
            "query": [prompt + whole(str(sample.completion)) for prompt, sample in zip(prompts, samples, strict=True)],
            "prompts": prompts,
            "labels": ["" if column is None else sample.columns[column] for sample in samples],
        }

    def _verdict(self, reward: Any, parts: Mapping[str, float]) -> Verdict:
        number = reward_from(reward)
        if not math.isfinite(number):
            return failed(f"the reward is {excerpt(json.dumps(reward))}, which is not a finite number", parts=parts)
        low, high = self._options.score_range or (-math.inf, math.inf)
        if not low <= number <= high:
            return failed(
                f"the reward is {number:g}, outside the declared score_range {low:g} to {high:g}", parts=parts
            )
        return scored(number, parts=parts)
