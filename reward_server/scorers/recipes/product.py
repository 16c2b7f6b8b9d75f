"""The product of other rewards: each of them can spoil the whole.

    overall: {product: [solved, brevity]}

Columns: those of the parts. Range: follows from the parts'. Cost class: that of the dearest part.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import reduce
from typing import ClassVar

from pydantic import Field

from reward_server.options import Options
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.recipes import extents
from reward_server.scorers.recipes.base import PartNames, Recipe


class ProductOptions(Options):
    """Options of the scorer `product`."""

    shorthand: ClassVar[str | None] = "parts"

    parts: PartNames = Field(description="names of other rewards")

    def rewards_used(self) -> Collection[str]:
        """Returns the parts' names."""
        return self.parts


class Product(Recipe):
    """Multiplies the scores of other rewards."""

    kind: ClassVar[str] = "product"
    Options = ProductOptions

    def __init__(self, options: ProductOptions, context: ScorerContext) -> None:
        super().__init__(options.parts, context)

    def extent(self, parts: Mapping[str, extents.Extent]) -> extents.Extent:
        """Returns between what the product lies."""
        return reduce(extents.product, parts.values())
