"""Prompts from every source, in the shape TRL takes, and the messages for data that is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer import data
from trainer.config import ConfigError, DataError, TrainConfig, load

Make = Callable[..., TrainConfig]


@pytest.fixture
def config(write_config: Callable[..., Path]) -> Make:
    def make(**settings: Any) -> TrainConfig:
        return load(write_config(data=settings))

    return make


def rows(config: TrainConfig, **options: Any) -> list[dict[str, Any]]:
    return list(data.prompt_rows(config, **options))


def jsonl(folder: Path, *lines: Any) -> str:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "p.jsonl").write_text(text, encoding="utf-8")
    return "p.jsonl"


def test_a_text_becomes_a_conversation_where_the_model_has_a_chat_template(config: Make):
    assert rows(config(prompts=["hi"])) == [{"prompt": [{"role": "user", "content": "hi"}]}]
    assert rows(config(prompts=["hi"]), has_chat_template=False) == [{"prompt": "hi"}]
    assert rows(config(prompts=["hi"], conversational=False)) == [{"prompt": "hi"}]


def test_a_system_prompt_comes_first_unless_there_is_one(config: Make, tmp_path: Path):
    own = [{"role": "system", "content": "mine"}, {"role": "user", "content": "b"}]
    found = rows(config(path=jsonl(tmp_path, {"prompt": "a"}, {"prompt": own}), system_prompt="Be brief."))
    assert found[0]["prompt"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"}]
    assert found[1]["prompt"] == own


def test_a_template_is_filled_from_the_row_and_leaves_other_braces_alone(config: Make, tmp_path: Path):
    path = jsonl(tmp_path, {"prompt": "2+2", "level": 3})
    template = 'Level {level}: {prompt} as {"x": 1} {unknown}'
    (row,) = rows(config(path=path, prompt_template=template, conversational=False))
    assert row["prompt"] == 'Level 3: 2+2 as {"x": 1} {unknown}'


def test_a_template_is_filled_once_not_again_from_what_was_filled_in(config: Make):
    (row,) = rows(config(prompts=["{prompt}"], prompt_template="Q: {prompt}", conversational=False))
    assert row["prompt"] == "Q: {prompt}"


def test_columns_come_along_and_are_renamed_for_the_rewards(config: Make, tmp_path: Path):
    path = jsonl(tmp_path, {"question": "q", "gold": 4})
    settings = {"path": path, "prompt_column": "question", "columns": {"answer": "gold"}, "conversational": False}
    assert rows(config(**settings)) == [{"question": "q", "gold": 4, "answer": 4, "prompt": "q"}]


def test_columns_that_collide_with_what_trl_passes_are_left_out(config: Make, tmp_path: Path):
    path = jsonl(tmp_path, {"prompt": "q", "completions": 1, "prompts": 2, "trainer_state": 3, "kept": 4})
    assert set(rows(config(path=path))[0]) == {"prompt", "kept"}


def test_parquet_gives_the_same_rows_as_json_lines(config: Make, tmp_path: Path):
    table = [{"prompt": "a", "answer": 1}, {"prompt": [{"role": "user", "content": "b"}], "answer": 2}]
    texts = [table[0], {"prompt": "é", "answer": None}]
    pq.write_table(pa.Table.from_pylist(texts), tmp_path / "p.parquet")
    assert rows(config(path="p.parquet")) == rows(config(path=jsonl(tmp_path, *texts)))


def test_a_limit_takes_the_first_rows(config: Make):
    assert len(rows(config(prompts=["a", "b", "c"], limit=2))) == 2


def test_conversations_survive_the_way_into_a_dataset(config: Make, tmp_path: Path):
    prompt = [{"role": "user", "content": "a"}]
    found, _ = data.datasets_of(config(path=jsonl(tmp_path, {"prompt": prompt, "answer": "x"})), has_chat_template=True)
    assert found[0] == {"prompt": prompt, "answer": "x"}


def test_a_row_may_lack_a_column_that_others_have(config: Make, tmp_path: Path):
    path = jsonl(tmp_path, {"prompt": "a", "answer": "x"}, {"prompt": "b"})
    found, _ = data.datasets_of(config(path=path, conversational=False), has_chat_template=True)
    assert found["answer"][:] == ["x", None]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"prompt": "a"}', "", '{"prompt": '], r"p\.jsonl:3: is not JSON: .* \(column 12\); each line is one object"),
        (["[1, 2]"], r"p\.jsonl:1: is not an object"),
        ([{"question": "a"}], r"p\.jsonl: row 1: no column 'prompt' .*there is: question; probably meant: data\.prompt_column: question"),
        ([{"promt": "a"}], "probably meant: data.prompt_column: promt"),
        ([{"prompt": "a"}, {"prompt": 5}], r"row 2: column 'prompt' should hold a text or a list of messages .*not '5'"),
        ([{"prompt": []}], "should hold a text or a list of messages"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(config: Make, tmp_path: Path, lines, message):
    with pytest.raises(DataError, match=message):
        rows(config(path=jsonl(tmp_path, *lines)))


def test_bytes_that_are_no_utf8_are_named_by_line(config: Make, tmp_path: Path):
    (tmp_path / "p.jsonl").write_bytes(b'{"prompt": "a"}\n{"prompt": "\xff"}\n')
    with pytest.raises(DataError, match=r"p\.jsonl:2: is not UTF-8 text"):
        rows(config(path="p.jsonl"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "none.jsonl"}, r"none\.jsonl: there is no such file \(data\.path\)"),
        ({"prompts": ["a"], "columns": {"answer": "solution"}}, r"data\.columns\.answer: no column 'solution'; known: prompt"),
        ({"prompts": ["a"], "prompt_template": "{question}"}, "names no column; there is: prompt"),
        ({"prompts": ["a"], "system_prompt": "s", "conversational": False}, "data.conversational is false: drop one of them"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_the_data_are_named(config: Make, settings, message):
    with pytest.raises(DataError, match=message):
        rows(config(**settings))


def test_a_conversation_asked_for_without_a_chat_template_is_refused(config: Make):
    with pytest.raises(DataError, match=r"data\.system_prompt needs a chat template.*model\.chat_template"):
        rows(config(prompts=["a"], system_prompt="s"), has_chat_template=False)


def test_a_template_on_a_conversation_is_refused(config: Make, tmp_path: Path):
    path = jsonl(tmp_path, {"prompt": [{"role": "user", "content": "a"}]})
    with pytest.raises(DataError, match="this prompt is a conversation"):
        rows(config(path=path, prompt_template="{prompt}!"))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"prompt": "a", "answer": 1}, {"prompt": "b", "answer": "one"}], "a column holds values of different types"),
        (['{"prompt": "a \\ud800"}'], "a lone surrogate"),
        ([""], "holds no prompt"),
    ],
)
def test_what_no_dataset_can_hold_is_refused(config: Make, tmp_path: Path, lines, message):
    with pytest.raises(DataError, match=message):
        data.datasets_of(config(path=jsonl(tmp_path, *lines), conversational=False), has_chat_template=True)


def test_a_hub_dataset_that_is_not_there_says_what_else_would_do(config: Make, monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("offline")))
    with pytest.raises(
        DataError, match=r"org/name: cannot be loaded from the hub: offline .*name a file with data\.path"
    ):
        rows(config(hub_id="org/name"))


def test_a_hub_dataset_is_read_by_its_configuration_and_split(config: Make, monkeypatch):
    asked = []

    def load_dataset(*arguments: Any, **options: Any) -> list[dict[str, str]]:
        asked.append((arguments, options))
        return [{"prompt": "a"}]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert rows(config(hub_id="org/name", config="main", split="test", conversational=False)) == [{"prompt": "a"}]
    assert asked == [(("org/name", "main"), {"split": "test"})]


def test_a_share_is_held_out_by_the_seed_and_never_trained_on(config: Make, tmp_path: Path):
    path = jsonl(tmp_path, *({"prompt": str(number), "answer": number} for number in range(20)))
    settings = config(path=path, eval_share=0.25, conversational=False)
    stay, held_out = data.datasets_of(settings, has_chat_template=False)
    assert held_out is not None
    assert len(held_out) == 5
    assert sorted([*stay["answer"], *held_out["answer"]]) == list(range(20))
    assert data.datasets_of(settings, has_chat_template=False)[1]["answer"] == held_out["answer"]
    limited = config(path=path, eval_share=0.25, eval_limit=2, conversational=False)
    fewer, most = data.datasets_of(limited, has_chat_template=False)
    assert most["answer"] == held_out["answer"][:2]
    assert fewer["answer"] == stay["answer"]


def test_another_file_is_evaluated_in_the_same_shape(config: Make, tmp_path: Path):
    (tmp_path / "held_out.jsonl").write_text('{"question": "b"}\n{"question": "c"}\n')
    path = jsonl(tmp_path, {"question": "a"})
    settings = {"prompt_column": "question", "prompt_template": "Q: {prompt}", "conversational": False, "limit": 1}
    found = config(path=path, eval_path="held_out.jsonl", **settings)
    prompts, held_out = data.datasets_of(found, has_chat_template=False)
    assert prompts["prompt"] == ["Q: a"]
    assert held_out["prompt"] == ["Q: b", "Q: c"]


def test_a_hub_split_is_evaluated(config: Make, monkeypatch: pytest.MonkeyPatch):
    import datasets

    def load_dataset(name: str, subset: str | None, *, split: str) -> list[dict[str, str]]:
        return [{"prompt": f"{name} {subset} {split}"}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = config(hub_id="some/data", config="main", eval_split="test", conversational=False)
    prompts, held_out = data.datasets_of(found, has_chat_template=False)
    assert (prompts["prompt"], held_out["prompt"]) == (["some/data main train"], ["some/data main test"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_path": "e.jsonl", "eval_share": 0.1}, "at most one of eval_path, eval_split, eval_share"),
        ({"eval_split": "test"}, "names a split of hub_id, which is missing"),
        ({"eval_share": 1.0}, "less than 1"),
        ({"eval_path": "e.csv"}, "should be a .jsonl or .parquet file"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused(config: Make, settings: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        config(prompts=["a", "b"], **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_share": 0.1}, r"data.eval_share: 0.1 of 2 prompts holds out 0"),
        ({"eval_share": 0.9}, r"data.eval_share: 0.9 of 2 prompts holds out 2"),
        ({"eval_path": "nowhere.jsonl"}, r"there is no such file \(data.eval_path\)"),
    ],
)
def test_an_evaluation_without_prompts_is_an_error(config: Make, settings: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        data.datasets_of(config(prompts=["a", "b"], conversational=False, **settings), has_chat_template=False)
