"""Scorers that are sound but for one thing, which each is named after."""

import asyncio
import itertools

from reward_server.domain import HEALTHY, CostClass, Health, Needs, failed, scored
from reward_server.options import Options


class Sound:
    """Scores how much of an answer is there, as a server's scorer does."""

    kind = "sound"
    Options = Options
    needs = Needs(required_columns=frozenset({"answer"}))
    score_range = (0.0, 10.0)
    cost_class = CostClass.TRIVIAL

    def __init__(self, options, context):
        pass

    async def start(self):
        pass

    async def close(self):
        pass

    def identity(self):
        return {}

    def health(self):
        return HEALTHY

    async def score(self, samples, call):
        for index, sample in enumerate(samples):
            yield index, self.verdict(sample)
            await asyncio.sleep(0)

    def verdict(self, sample):
        if not isinstance(sample.completion, str) or not isinstance(sample.columns["answer"], str):
            return failed("it cannot be read")
        return scored(len(sample.completion) % 10)


class AnyOptions(Sound):
    class Options(Options):
        model_config = {"extra": "ignore"}


class Unwell(Sound):
    def health(self):
        return Health(serving=False, reason="it has a cold")


class TakenKind(Sound):
    kind = "length"


class OutOfRange(Sound):
    score_range = (0.0, 2.0)


class Drops(Sound):
    async def score(self, samples, call):
        for index, sample in enumerate(samples[:2]):
            yield index, self.verdict(sample)


class Twice(Sound):
    async def score(self, samples, call):
        for index, sample in [*enumerate(samples), *enumerate(samples[:1])]:
            yield index, self.verdict(sample)


class WrongOrder(Sound):
    async def score(self, samples, call):
        for index, sample in enumerate(reversed(samples)):
            yield index, self.verdict(sample)


class FirstIsBest(Sound):
    async def score(self, samples, call):
        for index, sample in enumerate(samples):
            yield index, self.verdict(sample) if index else scored(9)


class KeepsState(Sound):
    async def score(self, samples, call):
        self.samples = samples
        for index in range(len(samples)):
            await asyncio.sleep(0)
            yield index, self.verdict(self.samples[index])


class Random(Sound):
    draws = itertools.count()

    def verdict(self, sample):
        return scored(next(self.draws) % 7)


class ByCompany(Sound):
    async def score(self, samples, call):
        longest = max((len(sample.completion) for sample in samples), default=1)
        for index, sample in enumerate(samples):
            yield index, scored(len(sample.completion) / max(1, longest))


class AcrossPrompts(Sound):
    async def score(self, samples, call):
        for index, _ in enumerate(samples):
            yield index, scored(min(10, len(samples)))


class RaisesOnNothing(Sound):
    def verdict(self, sample):
        return scored(sum(len(word) for word in sample.completion.split()) / len(sample.completion))


class ReadsMessages(Sound):
    def verdict(self, sample):
        return scored(len(sample.completion) % 10) if sample.still_thinking is None else failed("what is that?")


class RaisesInTheMiddle(Sound):
    def verdict(self, sample):
        if "\ud800" in sample.completion:
            raise ValueError("surrogates not allowed")
        return super().verdict(sample)


class Silent(Sound):
    def verdict(self, sample):
        return super().verdict(sample) if sample.completion.strip() else failed("")


class SlowOnTheLoop(Sound):
    def verdict(self, sample):
        return scored(sum(ord(letter) for letter in sample.completion for _ in range(2)) % 10)


class TrustsColumns(Sound):
    def verdict(self, sample):
        return scored(len(sample.columns["answer"].strip()) % 10)


class GoesOn(Sound):
    tasks = []

    async def score(self, samples, call):
        self.tasks.append(asyncio.create_task(asyncio.sleep(3600)))
        await asyncio.sleep(0.01)
        self.tasks.pop().cancel()
        for index, sample in enumerate(samples):
            yield index, self.verdict(sample)

    async def close(self):
        for task in self.tasks:
            task.cancel()


class NeverGivesBack(Sound):
    def __init__(self, options, context):
        self.free = 1

    async def score(self, samples, call):
        self.free -= 1
        for index, sample in enumerate(samples):
            await asyncio.sleep(0)
            yield index, self.verdict(sample) if self.free == 0 else failed("it is busy")
        self.free += 1


class ReadsUndeclared(Sound):
    def verdict(self, sample):
        return scored(len(sample.columns.get("topic", "")) % 10)


class ReadsPrompts(Sound):
    def verdict(self, sample):
        return scored(len(sample.prompt or "") % 10)


class Untellable(Sound):
    def identity(self):
        return {"model": object()}


class NewEachTime(Sound):
    opened = itertools.count()

    def __init__(self, options, context):
        self.number = next(self.opened)

    def identity(self):
        return {"number": self.number}
