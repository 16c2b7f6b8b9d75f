"""A trained reward model, behind the server that people run it on.

    rewards:
      skywork:
        reward_model: {protocol: vllm_classify, url: "http://gpu:8000", calibrate: {low: -20, high: 20}}
      helpful:
        reward_model: {protocol: tei, url: "http://box:8080", activation: sigmoid}

What is sent, and how the answer is read, is the protocol's. No text is cut in silence: what is too long is refused,
unless the options say which part to keep.

Columns: none. Range: 0 to 1 with an activation, that of `calibrate`, else unknown. Cost class: judge.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, ClassVar, Final

from reward_server.domain import Blame, Call, Needs, Sample, Text, Verdict, abstained
from reward_server.errors import BadAnswer, ConfigError, ModelChanged
from reward_server.http.complaints import Addressee
from reward_server.http.credentials import Secret
from reward_server.http.host import Host
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.endpoints.asking import PLAIN, Asking
from reward_server.scorers.endpoints.model_options import RewardModelOptions
from reward_server.scorers.endpoints.protocols.base import Manner, Told
from reward_server.scorers.endpoints.protocols.kinds import PROTOCOLS
from reward_server.scorers.endpoints.readings import Reader
from reward_server.scorers.endpoints.remote import Remote, RemoteScorer
from reward_server.scorers.endpoints.texts import Input, Texts, read_template
from reward_server.views import content_text

UNKNOWN: Final = Told({})
YIELD_EVERY_CHARS: Final = 20_000
"""Looking for tokens in so many characters takes up to ten milliseconds; then others have a turn."""


class RewardModel(RemoteScorer):
    """Scores by asking a reward model."""

    kind: ClassVar[str] = "reward_model"
    Options = RewardModelOptions

    def __init__(self, options: RewardModelOptions, context: ScorerContext) -> None:
        self._options, self._folder = options, context.folder
        self._place = place = f"rewards.{context.reward_name}.reward_model"
        self.needs = Needs(prompts=options.form != "completion")
        self.whole_prompts = options.form in ("chat", "template")
        self._reader = Reader(options.label, options.activation, options.calibrate)
        self.score_range: tuple[float, float] | None = self._reader.score_range
        self._secret = Secret(place, "token", options.token_env, options.token_file, context.folder)
        to = Addressee(
            f"reward `{context.reward_name}` ({options.url})",
            options.model or "",
            model_mend=f"Mend {place}.model",
            token_mend=f"{place}.token_env",
        )
        super().__init__(to, context)
        manner = Manner(options.model, options.too_long, options.rows)
        self._protocol = PROTOCOLS[options.protocol](self._to, manner)
        self._told = UNKNOWN
        self._texts: Texts  # from `start` on

    async def start(self) -> None:
        """Looks at the server. Raises `ConfigError` where the template or the token can't be read."""
        options = self._options
        self._texts = Texts(options.form, self._template(), options.template_variables, breaks=options.break_tokens)
        mend = f"Start the server there, or mend {self._place}.url"
        base = options.url.removesuffix(self._protocol.path)
        host = Host(self._to.label, base, mend=mend, headers=self._secret.bearer_header())
        await self._open(Remote(host, self._to, options.in_flight, self._look, self._protocol.refusal))

    def _template(self) -> str:
        if self._options.template_file is None:
            return ""
        try:
            return read_template(self._folder / self._options.template_file)
        except ConfigError as error:
            raise ConfigError(f"{self._place}.template_file: {error}") from None

    def identity(self) -> Mapping[str, Any]:
        """Returns what the server tells of its model, and what shapes the texts that it is given."""
        return {"model": dict(self._told.model), **self._texts.identity()}

    async def _look(self) -> None:
        self._told = await self._protocol.look(self._remote.get)

    async def score(self, samples: Sequence[Sample], call: Call) -> AsyncGenerator[tuple[int, Verdict], None]:
        """Yields the verdicts as the model's server gives them."""
        inputs: dict[int, Input] = {}
        chars = 0
        for index, sample in enumerate(samples):
            given = self._given(sample)
            if isinstance(given, Verdict):
                yield index, given
            else:
                inputs[index] = given
            chars += len(sample.completion)
            if chars > YIELD_EVERY_CHARS:
                chars = 0
                await asyncio.sleep(0)
        before = self._told
        if before is UNKNOWN:
            await self._remote.look_now()
        known = {id(samples[index]): given for index, given in inputs.items()}
        asking = Asking(
            self._remote, _Asker(self, known, before), samples, call, timeout_s=self._options.timeout_s, plain=PLAIN
        )
        parts = self._protocol.parts(inputs, min(self._options.batch, self._told.most_in_batch or self._options.batch))
        async with aclosing(asking.score(parts)) as verdicts:
            async for ready in verdicts:
                yield ready

    def _given(self, sample: Sample) -> Input | Verdict:
        """Returns what the model is given of a sample, or the verdict on one that it is not asked about."""
        most = self._options.max_chars
        task, said = _chars(sample.prompt if self.needs.prompts else None), _chars(sample.completion)
        if most is None or task + said <= most:
            return self._texts.of(sample)
        owed_to = Blame.COMPLETION if task <= most else Blame.REFERENCE
        return abstained(f"the text has {task + said} characters, and max_chars is {most}", blame=owed_to)

    async def ask(
        self, inputs: Sequence[Input], before: Told, timeout_s: Callable[[], float], tries: int
    ) -> Sequence[Verdict]:
        """Returns the model's verdicts. Raises `EngineError`, also where it is another model than `before`."""
        reply = await self._remote.post(self._protocol.path, self._protocol.body(inputs), timeout_s, tries)
        readings = self._protocol.read(reply, len(inputs))
        if self._told.model != before.model:
            raise ModelChanged(
                f"{self._to.label}: its model is another than when the call began, and so is the reward's version"
            )
        return [self._reader.verdict(reading) for reading in readings]

    def shown(self, sample: Sample) -> Input:
        """Returns what the model is given of a control. Raises `BadAnswer` where it cannot be shown."""
        given = self._texts.of(sample)
        if isinstance(given, Verdict):
            raise BadAnswer(f"{self._to.label}: the control cannot be shown: {given.status_reason}")
        return given


class _Asker:
    """Asks for one call."""

    def __init__(self, model: RewardModel, known: Mapping[int, Input], before: Told) -> None:
        self._model, self._known, self._before = model, known, before

    async def __call__(
        self, samples: Sequence[Sample], timeout_s: Callable[[], float], tries: int
    ) -> Sequence[Verdict]:
        inputs = [self._known.get(id(sample)) or self._model.shown(sample) for sample in samples]
        return await self._model.ask(inputs, self._before, timeout_s, tries)


def _chars(text: Text | None) -> int:
    if text is None or isinstance(text, str):
        return len(text or "")
    return sum(len(content_text(message.get("content"))) for message in text)
