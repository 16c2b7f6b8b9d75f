"""The fixed words of the prompts: templates beside this file, one or two a method.

What a person wrote into a rubric is neutralised before it comes here; the material never comes here at all.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

FOLDER: Final = Path(__file__).with_name("prompts")


def render(name: str, **values: Any) -> str:
    """Returns the text of a template, such as "criteria.jinja". A variable that it does not get is an error."""
    return _environment().get_template(name).render(values).strip()


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        loader=jinja2.FileSystemLoader(FOLDER),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,  # of what is included; `render` strips the whole
        autoescape=False,  # the reader is a model, not a browser
    )
