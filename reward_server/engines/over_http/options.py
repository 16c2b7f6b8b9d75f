"""The options that all engines in front of HTTP hosts share: where the hosts are, and how much is at each at a time."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from reward_server.http.credentials import http_url
from reward_server.options import Options

Urls = str | Annotated[tuple[str, ...], Field(min_length=1)]
MOST_IN_FLIGHT: Final = 4096


class HostedOptions(Options):
    """Options of an engine whose hosts are somewhere else."""

    url: Urls
    in_flight: Literal["auto"] | Annotated[int, Field(ge=1, le=MOST_IN_FLIGHT)] = Field(
        "auto", description="questions at one host at a time; auto finds the number that it answers most with"
    )
    max_in_flight: int = Field(64, ge=1, le=MOST_IN_FLIGHT, description="the most that auto tries")
    on_model_change: Literal["refuse", "new_version"] = Field(
        "refuse",
        description="when another model is put behind the name while the server runs: ask it nothing more (refuse), or "
        "go on with it under a new version of the rewards (new_version), with which no running experiment's scores "
        "compare",
    )

    @property
    def urls(self) -> tuple[str, ...]:
        """Returns the URLs of all hosts, in the order of the configuration, each once."""
        return (self.url,) if isinstance(self.url, str) else self.url

    @property
    def slots(self) -> int | None:
        """Returns how many questions a host gets at a time, None where that is to be found out."""
        return None if self.in_flight == "auto" else self.in_flight

    @classmethod
    def normal_url(cls, url: str) -> str:
        """Returns a URL as this engine writes it. Raises `ValueError` where it is none."""
        return http_url(url)

    @field_validator("url")
    @classmethod
    def _normal(cls, url: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return cls.normal_url(url) if isinstance(url, str) else tuple(cls.normal_url(one) for one in url)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if twice := sorted({url for url in self.urls if self.urls.count(url) > 1}):
            raise ValueError(f"url: {', '.join(twice)} is listed twice")
        return self
