"""A rubric: what a judge is asked about a completion, in words that a person wrote into a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError


def _in_words(answer: Any) -> Any:
    """Returns yes for true and no for false, which is what some writers of YAML make of these words."""
    return {True: "yes", False: "no"}[answer] if isinstance(answer, bool) else answer


Answer = Annotated[Literal["yes", "no"], BeforeValidator(_in_words)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Words = Annotated[str, Field(min_length=1, pattern=r"\S")]
Grade = Answer | Annotated[int, Field(strict=True, ge=0, le=9)]


TITLES = ("TASK", "REFERENCE", "COMPLETION", "COMPLETION A", "COMPLETION B")
"""Under these a judge reads what is no column; see `reward_server.judge.showing`."""


class Part(BaseModel):
    """Base of a rubric's parts: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Criterion(Part):
    """One weighted line of a rubric."""

    name: Name = Field(description="short name: it names a metric too")
    text: Words = Field(description="a statement about the completion that is true or false, or a quality to grade")
    weight: float = Field(1.0, gt=0, le=1e9, allow_inf_nan=False, description="its share in the whole")
    scale: Literal["yes_no", "0-9"] = Field("yes_no", description="how it is answered, in one token")
    good: Answer = Field("yes", description="of yes_no: the answer that speaks for the completion")


class Example(Part):
    """A completion with its right grades, shown to the judge before it grades."""

    prompt: Words
    completion: str
    reference: str | None = None
    columns: dict[str, str] = {}
    grades: dict[Name, Grade] = Field(description="by criterion: yes, no or 0 to 9")
    reason: str = Field("", description="why, in one sentence; shown where the judge is to give reasons")


class Canary(Part):
    """A completion of which it is known what a sound judge thinks."""

    prompt: Words
    completion: str
    reference: str | None = None
    columns: dict[str, str] = {}
    good: bool


class Rubric(Part):
    """What makes a completion good."""

    description: str = Field("", description="one line for people")
    instructions: str = Field("", description="what the judge is told before anything else")
    criteria: tuple[Criterion, ...] = Field(min_length=1)
    anchors: dict[Annotated[int, Field(ge=0, le=9)], Words] = Field({}, description="what grades on the scale mean")
    columns: dict[str, Words] = Field({}, description="dataset columns that the judge is shown, and their titles")
    needs_reference: bool = Field(default=False, description="it can't be graded without a reference")
    examples: tuple[Example, ...] = ()
    canaries: tuple[Canary, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        faults = [*_of_titles(self.columns), *_of_criteria(self.criteria), *_of_examples(self), *_of_canaries(self)]
        if faults:
            raise ValidationError.from_exception_data("Rubric", [_detail(place, words) for place, words in faults])
        return self


Fault = tuple[tuple[str | int, ...], str]
"""Where in a rubric something does not fit, and what."""


def _of_criteria(criteria: tuple[Criterion, ...]) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, criterion in enumerate(criteria):
        if criterion.name in seen:
            yield ("criteria", index, "name"), f"two criteria have the name {criterion.name!r}"
        seen.add(criterion.name)
        if criterion.scale == "0-9" and criterion.good == "no":
            words = "is for yes_no: on the scale 9 is best, so name the quality and not the fault"
            yield ("criteria", index, "good"), words


def _of_titles(columns: dict[str, str]) -> Iterator[Fault]:
    """Yields the titles that a judge could not tell from one another, or from those of its prompts."""
    taken = dict.fromkeys(TITLES, "the judge reads something else under it")
    for name, title in columns.items():
        shown = " ".join(title.split()).upper()
        if shown in taken:
            yield ("columns", name), f"the title {title!r} is taken: {taken[shown]}"
        taken[shown] = f"the column {name!r} has it"


def _of_examples(rubric: Rubric) -> Iterator[Fault]:
    scales = {criterion.name: criterion.scale for criterion in rubric.criteria}
    for index, example in enumerate(rubric.examples):
        place = ("examples", index)
        yield from _of_material(example, rubric, place)
        if ungraded := [name for name in scales if name not in example.grades]:
            yield (*place, "grades"), f"lacks {', '.join(ungraded)}: an example shows an answer in full"
        for name, grade in example.grades.items():
            if name not in scales:
                words = f"no criterion has the name {name!r}; there are {', '.join(scales)}"
                yield (*place, "grades", name), words
            elif isinstance(grade, int) != (scales[name] == "0-9"):
                words = f"is {grade}, and that criterion is answered by {'0 to 9' if scales[name] == '0-9' else 'yes or no'}"
                yield (*place, "grades", name), words


def _of_canaries(rubric: Rubric) -> Iterator[Fault]:
    for index, canary in enumerate(rubric.canaries):
        yield from _of_material(canary, rubric, ("canaries", index))


def _of_material(known: Example | Canary, rubric: Rubric, place: tuple[str | int, ...]) -> Iterator[Fault]:
    lacking = ["`reference`"] if rubric.needs_reference and not known.reference else []
    lacking += [f"the column {name!r}" for name in rubric.columns if name not in known.columns]
    if lacking:
        yield place, f"lacks {' and '.join(lacking)}: the rubric needs it"
    for name in known.columns.keys() - rubric.columns.keys():
        yield (*place, "columns", name), "is no column of the rubric: name it in its `columns`, or remove it"


def _detail(place: tuple[str | int, ...], words: str) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError("value_error", "{words}", {"words": words}), loc=place, input=None)
