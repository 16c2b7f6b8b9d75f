"""docs/server-config.md and docs/rewards.md say what the models say, and their examples load: so they can't go stale."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from inspect import isclass
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from reward_server.config import load
from reward_server.config.models import AuthSection, Drain, FileShape, Limits, RewardFrame, Tls, Workers
from reward_server.judge.options import JudgeOptions
from reward_server.registry import BUILT_IN_ENGINES, BUILT_IN_SCORERS, ENGINES, SCORERS

DOCS = Path(__file__).parents[2] / "docs"
TEXT = "\n".join((DOCS / name).read_text() for name in ("server-config.md", "rewards.md"))


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yields the models that a field's annotation is made of."""
    if isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def tables_of(kind: str) -> dict[str, type[BaseModel] | list[type[BaseModel]]]:
    """Returns the tables of a kind of reward by title: its options, and those that have options of their own."""
    options = SCORERS[kind].Options
    nested = {f"{kind}: {name}": list(models_in(field.annotation)) for name, field in options.model_fields.items()}
    return {f"reward {kind}": options, **{title: models for title, models in nested.items() if models}}


THERE = [
    kind
    for kind, place in BUILT_IN_SCORERS.items()
    if find_spec(place.partition(":")[0].rpartition(".")[0]) and find_spec(place.partition(":")[0])
]
TABLES = {
    "The file": FileShape,
    "auth": AuthSection,
    "tls": Tls,
    "limits": Limits,
    "drain": Drain,
    "workers": Workers,
    "rewards": RewardFrame,
    "judges": JudgeOptions,
    **{title: model for kind in THERE for title, model in tables_of(kind).items()},
    **{f"engine {kind}": ENGINES[kind].Options for kind in BUILT_IN_ENGINES},
}


def default_of(field):
    """Returns a field's default as the document shows it."""
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    if field.default_factory is not None:
        return "computed"
    if value is None or value in ({}, (), ""):
        return "none"
    return f"`{shown(getattr(value, 'value', value))}`"  # of an enum its value


def shown(value):
    """Returns a value as YAML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return list(value)
    return f"{value:g}" if isinstance(value, float) else value


def table_of(model):
    """Returns the table that documents a model."""
    fields = [(field.alias or name, field) for name, field in model.model_fields.items()]
    rows = [f"| `{name}` | {default_of(field)} | {field.description} |" for name, field in fields]
    return "\n".join(["| key | default | what it is |", "|---|---|---|", *rows])


@pytest.mark.parametrize("title", TABLES)
def test_the_document_has_the_keys_defaults_and_words_of_the_models(title):
    section = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert section, f"neither docs/server-config.md nor docs/rewards.md has a section {title!r}"
    models = TABLES[title]
    for model in models if isinstance(models, list) else [models]:
        expected = table_of(model)
        assert expected in section[1], f"the section {title!r} needs this table:\n{expected}"


EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_in_the_document_loads(text, tmp_path, monkeypatch):
    text = re.sub(r"^tls:.*\n", "", text, flags=re.MULTILINE)  # certificates that fit: see test_config_load.py
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    for name in re.findall(r"[\w./-]+\.(?:txt|gguf|md)\b", text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    parts = [text]
    parts += [] if re.search("^rewards:", text, re.MULTILINE) else ["rewards: {r: {length: {target: 10, width: 30}}}"]
    if "judges:" in text and "engines:" not in text:
        parts += ["engines: {box: {ollama: {model: m}}}"]
    (tmp_path / "server.yaml").write_text("\n".join(parts))
    assert load(tmp_path / "server.yaml").rewards


def test_there_are_examples():
    assert len(EXAMPLES) > 10
