"""`reward-server score`: what it writes, how it groups and batches, and what it says of bad lines."""

import json
from pathlib import Path

import pytest
from commands import Commands
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_server.cli.rows import Row, batches, read_rows, short
from reward_server.domain import Sample
from reward_server.errors import MalformedRequest

CONFIG = """
rewards:
  brevity: {length: {unit: words, target: 2, width: 4}}
  twice: {sum: {brevity: 2}}
  mine: {python: "mine.py:mine"}
"""
FUNCTION = """
def mine(prompts, completions, weight):
    if "boom" in completions:
        raise RuntimeError("it went boom")
    return [None if w is None else float(w) for w in weight]
"""


@pytest.fixture
def reward_server(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("server.yaml").write_text(CONFIG)
    Path("mine.py").write_text(FUNCTION)
    return Commands(monkeypatch, capsys)


def write(*rows, to="data.jsonl"):
    Path(to).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_each_line_comes_back_with_its_verdicts_in_the_files_order(reward_server):
    write({"completion": "one two", "id": 7}, {"completion": "one", "prompt": "p", "verdicts": "of an earlier time"})
    ended = reward_server("score", "--data", "data.jsonl", "--reward", "twice", "--reward", "brevity")
    assert ended.status == 0
    first, second = map(json.loads, ended.out.splitlines())
    assert (first["completion"], first["id"]) == ("one two", 7)
    assert list(first["verdicts"]) == ["twice", "brevity"]
    assert first["verdicts"]["brevity"]["score"] == 1.0
    assert first["verdicts"]["twice"] == {
        "score": 2.0, "status": "scored", "reason": "", "explanation": "", "parts": {"brevity": 1.0}, "flags": [],
    }  # fmt: skip
    assert second["verdicts"]["brevity"]["score"] == 0.75


def test_the_summary_goes_to_stderr(reward_server):
    write({"completion": "one two"}, {"completion": "one"})
    ended = reward_server("score", "--data", "data.jsonl", "--reward", "brevity")
    (row,) = [line for line in ended.err.splitlines() if "brevity" in line]
    assert [cell.strip() for cell in row.split("│")][1:-1] == ["brevity", "2", "0", "0", "0.875", "0.75", "1", ""]


def test_out_takes_the_lines_and_stdout_stays_free(reward_server):
    write({"completion": "one two"})
    ended = reward_server("score", "--data", "data.jsonl", "--reward", "brevity", "--out", "scored.jsonl")
    assert (ended.status, ended.out) == (0, "")
    assert json.loads(Path("scored.jsonl").read_text())["verdicts"]["brevity"]["score"] == 1.0


def test_out_that_cannot_be_written_is_known_before_anything_is_scored(reward_server):
    write({"completion": "one two"})
    ended = reward_server("score", "--data", "data.jsonl", "--reward", "brevity", "--out", "none/scored.jsonl")
    assert ended == (1, "", "--out: none/scored.jsonl can't be written: No such file or directory\n")


def test_functions_get_prompts_and_columns_and_a_failed_verdict_makes_the_status_1(reward_server):
    write({"prompt": "p", "completion": "a", "weight": 1}, {"prompt": "p", "completion": "b", "weight": None})
    ended = reward_server("score", "--data", "data.jsonl", "--reward", "mine")
    verdicts = [json.loads(line)["verdicts"]["mine"] for line in ended.out.splitlines()]
    assert [(v["score"], v["status"]) for v in verdicts] == [(1.0, "scored"), (None, "abstained")]
    assert ended.status == 0

    good = [{"prompt": "p", "completion": text, "weight": 1} for text in "ab"]
    write(*good, {"prompt": "p", "completion": "boom", "weight": 2})
    ended = reward_server("score", "--data", "data.jsonl", "--reward", "mine")
    verdicts = [json.loads(line)["verdicts"]["mine"] for line in ended.out.splitlines()]
    assert [(v["score"], v["status"]) for v in verdicts] == [(1.0, "scored"), (1.0, "scored"), (None, "failed")]
    assert "it went boom" in verdicts[2]["reason"]
    assert ended.status == 1


def test_conversations_and_lone_surrogates_are_scored_and_written_again(reward_server):
    conversation = [{"role": "assistant", "content": "one \ud800"}]
    write({"prompt": [{"role": "user", "content": "?"}], "completion": conversation})
    ended = reward_server("score", "--data", "data.jsonl", "--reward", "brevity")
    assert ended.status == 0
    line = json.loads(ended.out)
    assert line["completion"] == conversation
    assert line["verdicts"]["brevity"]["status"] == "scored"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reward", "brevty"], "there is no reward 'brevty'; there is: brevity, twice, mine"),
        (["--reward", "mine"], "'mine' needs the column"),
    ],
)
def test_what_does_not_fit_the_configuration_is_said_in_one_line(reward_server, arguments, message):
    write({"completion": "one two", "prompt": "p"})
    ended = reward_server("score", "--data", "data.jsonl", *arguments)
    assert ended.status == 1
    assert message in ended.err
    assert len(ended.err.splitlines()) == 1


MIXED = """
rewards:
  solved: {exact_match: {answer: whole}}
  counted: {numeric: {reference_column: number}}
  overall: {sum: {parts: {solved: 1, counted: 2}, missing_parts: skip}}
  tokens: {overlong: {max_length: 4, cache: 2}}
"""


def scores(ended, reward):
    return [json.loads(line)["verdicts"][reward]["score"] for line in ended.out.splitlines()]


def test_a_column_that_only_some_lines_have_is_none_for_the_others(reward_server):
    Path("server.yaml").write_text(MIXED)
    write({"completion": "Paris", "answer": "Paris"}, {"completion": "4", "number": 4}, {"completion": "x"})
    ended = reward_server("score", "--data", "data.jsonl", "--reward", "solved", "--reward", "overall")
    assert ended.status == 0
    assert scores(ended, "solved") == [1.0, None, None]
    assert scores(ended, "overall") == [1.0, 2.0, None]
    assert "answer" not in json.loads(ended.out.splitlines()[1])  # a line comes back as it was


def test_a_column_that_no_line_has_is_named_with_what_the_lines_have_and_the_option_that_renames_it(reward_server):
    Path("server.yaml").write_text(MIXED)
    write({"completion": "Paris", "anwser": "Paris"}, {"completion": "4", "id": 4})
    ended = reward_server("score", "--data", "data.jsonl", "--reward", "solved", "--reward", "overall")
    assert ended.status == 1
    end = "; did you mean 'anwser'?; the rows have: anwser, id"
    renamed = "(is it called otherwise? say so in its reference_column)"
    assert ended.err.splitlines() == [
        f"data.jsonl: no row has 'answer': the reward 'solved' needs the column {renamed}{end}",
        f"data.jsonl: no row has 'answer': the reward 'overall' needs the column {renamed}{end}",
        f"data.jsonl: no row has 'number': the reward 'overall' needs the column {renamed}; the rows have: anwser, id",
    ]


def test_lines_without_a_prompt_are_named_where_a_reward_reads_it(reward_server):
    write({"completion": "a", "weight": 1}, {"completion": "b", "prompt": "p"}, {"completion": "c", "prompt": None})
    ended = reward_server("score", "--data", "data.jsonl", "--reward", "mine")
    assert ended.status == 1
    assert ended.err.splitlines() == [
        f"data.jsonl:{line}: has no 'prompt', which the reward 'mine' reads" for line in (1, 3)
    ]


def test_lengths_in_tokens_are_taken_from_the_lines(reward_server):
    Path("server.yaml").write_text(MIXED)
    rows = [{"completion_token_count": 3}, {"completion_ids": [7, 7, 7, 7, 7]}, {"completion_token_count": None}, {}]
    write(*({"completion": "x", **row} for row in rows))
    ended = reward_server("score", "--data", "data.jsonl", "--reward", "tokens")
    assert scores(ended, "tokens") == [-0.5, -1.0, None, None]
    assert ended.status == 0
    assert "completion_token_count" in reward_server("score", "--help").out


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ({"completion_ids": 3}, "its completion_ids must be a list of whole numbers, found 3"),
        ({"completion_ids": ["a"]}, 'its completion_ids must be a list of whole numbers, found ["a"]'),
        ({"completion_token_count": -1}, "its completion_token_count must be a whole number, found -1"),
        ({"completion_token_count": True}, "its completion_token_count must be a whole number, found true"),
        (
            {"completion_token_count": 1, "completion_ids": []},
            "its completion_token_count is 1, but it has 0 completion_ids: keep one of them",
        ),
    ],
)
def test_tokens_that_are_none_are_named_by_file_and_line(reward_server, tokens, message):
    write({"completion": "x"}, {"completion": "x", **tokens})
    ended = reward_server("score", "--data", "data.jsonl", "--reward", "brevity")
    assert (ended.status, ended.err) == (1, f"data.jsonl:2: {message}\n")


def test_bad_lines_are_all_named_by_file_and_line(reward_server):
    lines = [
        b'{"prompt": "p", "completio": "x"}',
        b"",
        b"[1]",
        b'{"completion": "x"',
        b'{"completion": 4}',
        b'{"completion": "x", "prompt": {"role": "user"}}',
        b'{"completion": [{"content": "x"}]}',
        b'{"completion": "caf\xe9"}',
        b"[" * 100_000,
        b'{"completion": "fine"}',
    ]
    Path("data.jsonl").write_bytes(b"\n".join(lines))
    ended = reward_server("score", "--data", "data.jsonl")
    assert (ended.status, ended.out) == (1, "")
    wanted = 'must be a text or a list of messages such as [{"role": "user", "content": "Hello."}]'
    assert ended.err.splitlines() == [
        "data.jsonl:1: has no key 'completion'; it has: prompt, completio",
        'data.jsonl:3: is no JSON object such as {"prompt": "...", "completion": "..."}, found [1]',
        "data.jsonl:4: is no JSON: Expecting ',' delimiter at column 19",
        f"data.jsonl:5: its completion {wanted}, found 4",
        f'data.jsonl:6: its prompt {wanted}, found {{"role": "user"}}',
        f'data.jsonl:7: its completion {wanted}, found [{{"content": "x"}}]',
        "data.jsonl:8: is not UTF-8 (byte 0xe9 at column 20)",
        "data.jsonl:9: is nested too deeply",
    ]


def test_a_thousand_bad_lines_are_not_all_named(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("{}\n" * 1000)
    with pytest.raises(MalformedRequest) as caught:
        read_rows(path)
    assert str(caught.value).splitlines()[-1] == f"{path}: ... and 980 more"


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.jsonl", "none.jsonl: can't be read: No such file"), (".", ".: can't be read: Is a directory"),
     ("empty.jsonl", 'empty.jsonl: holds no samples: one JSON object a line, such as {"completion": "Hello."}')],
)  # fmt: skip
def test_a_file_without_samples_says_so(reward_server, name, message):
    Path("empty.jsonl").write_text("\n\n")
    ended = reward_server("score", "--data", name)
    assert ended.status == 1
    assert ended.err.startswith(message)


def test_what_is_shown_is_short_and_cannot_steer_a_terminal():
    assert short("\x1b[2Jgone \ud800") == "\ufffd[2Jgone \ufffd"
    assert short("x" * 61) == "x" * 60 + "..."


def test_completions_of_one_prompt_in_a_row_are_a_group(tmp_path):
    path = tmp_path / "data.jsonl"
    prompts = ["a", "a", "b", "a", None, None, [{"role": "user"}], [{"role": "user"}]]
    write(*({"prompt": prompt, "completion": "x"} for prompt in prompts), to=path)
    assert [row.sample.group for row in read_rows(path)] == [0, 0, 1, 2, 3, 4, 5, 5]


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 12))
def test_batches_keep_the_order_part_no_group_and_are_no_larger_than_needed(group_sizes, size):
    groups = [group for group, count in enumerate(group_sizes) for _ in range(count)]
    rows = [Row({}, Sample("x", group=group), line) for line, group in enumerate(groups, start=1)]
    made = list(batches(rows, size))
    assert [index for batch in made for index in batch] == list(range(len(rows)))
    assert sum(len({groups[index] for index in batch}) for batch in made) == len(group_sizes)
    for batch in made:
        last_group = groups[batch[-1]]
        assert sum(groups[index] != last_group for index in batch) < size


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_samples_or_named_as_bad(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(content)
    try:
        said = [] if read_rows(path) else ["no rows"]
    except MalformedRequest as error:
        said = str(error).splitlines()
    assert all(line.startswith(f"{path}:") for line in said)
