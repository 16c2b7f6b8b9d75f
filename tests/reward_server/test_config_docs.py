"""docs/server-config.md says what the models say, and its examples load: so it can't go stale."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from reward_server.config import load
from reward_server.config.models import AuthSection, Drain, FileShape, Limits, RewardFrame, Tls, Workers
from reward_server.judge.options import JudgeOptions
from reward_server.registry import BUILT_IN_ENGINES, BUILT_IN_SCORERS, ENGINES, SCORERS
from reward_server.scorers.format import Pattern, Tags
from reward_server.scorers.length import Step

DOCUMENT = Path(__file__).parents[2] / "docs" / "server-config.md"
TABLES = {
    "The file": FileShape,
    "auth": AuthSection,
    "tls": Tls,
    "limits": Limits,
    "drain": Drain,
    "workers": Workers,
    "rewards": RewardFrame,
    "judges": JudgeOptions,
    "format: tags": Tags,
    "format: patterns": Pattern,
    "length: steps": Step,
    **{f"reward {kind}": SCORERS[kind].Options for kind in BUILT_IN_SCORERS},
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
    rows = [f"| `{name}` | {default_of(field)} | {field.description} |" for name, field in model.model_fields.items()]
    return "\n".join(["| key | default | what it is |", "|---|---|---|", *rows])


@pytest.mark.parametrize("title", TABLES)
def test_the_document_has_the_keys_defaults_and_words_of_the_models(title):
    section = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##|\Z)", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    assert section, f"docs/server-config.md has no section {title!r}"
    expected = table_of(TABLES[title])
    assert expected in section[1], f"the section {title!r} needs this table:\n{expected}"


EXAMPLES = re.findall(
    r"^```yaml\n(.*?)^```", DOCUMENT.read_text() if DOCUMENT.exists() else "", re.DOTALL | re.MULTILINE
)


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
