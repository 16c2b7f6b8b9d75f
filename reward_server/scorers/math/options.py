"""Options of the scorer of mathematical answers."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from reward_server.scorers.math.place import MathPlace
from reward_server.scorers.math.reading import Form
from reward_server.scorers.pooled import PooledOptions

Target = Literal["latex", "expr", "strings"]
Digits = Annotated[int, Field(strict=True, ge=0, le=1000)]


class MathOptions(PooledOptions):
    """Where the reference is, what is looked for in the texts, and how exactly they are compared."""

    reference_column: str = Field("answer", min_length=1, description="column with the right answer, or a list of them")
    reference_form: Form = Field(
        "auto",
        description="what a reference is: latex (a formula, without $), text (in which the answer is found), or auto",
    )
    answer: MathPlace | None = Field(
        MathPlace(),
        description="where in the completion the answer stands: tag_or_text (the last `<answer>` element; where there is "
        "none, math-verify looks for it), auto, whole, boxed, last_line, last_number, tag:NAME, after:MARK or "
        "regex:EXPRESSION; null: math-verify looks for it, whatever elements there are",
    )
    targets: tuple[Target, ...] = Field(
        ("latex", "expr"), min_length=1, description="what is looked for: latex, expr (plain numbers), strings"
    )
    strings: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        ("A", "B", "C", "D"), min_length=1, description="answers of target strings"
    )
    boxed_match_priority: Annotated[int, Field(strict=True, ge=-1, le=1000)] = Field(
        50, description="0: \\boxed{} counts before all else; 50: after 'final answer is'; -1: it does not count"
    )
    try_extract_without_anchor: bool = Field(
        default=True, description="take answers that no box and no 'answer' announces"
    )
    first_match_only: bool = Field(default=False, description="if the likeliest place holds no answer, look no further")
    float_rounding: Digits = Field(6, description="decimal places to which decimal fractions are compared")
    numeric_precision: Annotated[int, Field(strict=True, ge=1, le=1000)] = Field(
        15, description="digits to which expressions are computed where they are compared by value"
    )
    strict: bool = Field(default=True, description="f(x) is not f(y), and a set is not a tuple")
    allow_set_relation_comp: bool = Field(
        default=False, description="a relation such as 1 < x < 2 may stand for the reference (1, 2)"
    )

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        if len(set(self.targets)) < len(self.targets):
            raise ValueError(f"name each target once; here they are {', '.join(self.targets)}")
        return self
