"""What the commands say and how they end: help, check, list, example. See also test_cli_score, _serve and _judge_pull."""

import json
import re
import shlex
import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from command_lines import complaint
from commands import Commands
from scripted_engine import ScriptedEngine, labels, said, shown, yes_no

from protos.configfile import parse
from reward_server import __version__
from reward_server.cli import checking
from reward_server.cli import kinds as kinds_command
from reward_server.cli.kinds import GROUPS
from reward_server.config import load
from reward_server.errors import ConfigError
from reward_server.http.host import Host
from reward_server.registry import BUILT_IN_SCORERS, ENGINES, SCORER_GROUP, SCORERS, Kinds

RULES = """
rewards:
  brevity: {length: {unit: words, target: 10, width: 30}, view: answer, description: short is good}
  overall: {sum: {brevity: 1}}
"""
JUDGED = """
engines: {box: {ollama: {url: "http://127.0.0.1:9", model: m}}}
judges: {good: {engine: box, rubric: Is it good?, reference_column: gold}}
rewards:
  relevant: {judge: good}
  both: {sum: {relevant: 1}}
"""


@pytest.fixture
def reward_server(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    return Commands(monkeypatch, capsys)


@pytest.mark.parametrize("command", ["serve", "check", "list", "kinds", "score", "example", "judge pull"])
def test_help_has_an_example_that_the_command_line_understands(reward_server, command):
    ended = reward_server(*command.split(), "--help")
    (example,) = [line.partition("Example: ")[2].strip() for line in ended.out.splitlines() if "Example: " in line]
    words = shlex.split(re.split("[|>]", example)[0])
    assert " ".join(words).startswith(f"reward-server {command}")
    assert complaint(words) is None


def test_help_names_every_command(reward_server):
    out = reward_server("--help").out
    assert all(f" {name} " in out for name in ("serve", "check", "list", "kinds", "score", "example", "judge"))


def test_version(reward_server):
    assert reward_server("--version") == (0, f"reward-server {__version__}\n", "")


def test_help_and_version_do_not_wait_for_grpc():
    script = (
        "import sys; sys.argv = ['reward-server', '--help']\n"
        "try:\n  from reward_server.cli import main; main()\n"
        "except SystemExit: print(sorted({'grpc', 'pydantic', 'yaml', 'httpx'} & sys.modules.keys()), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    loaded = ended.stderr.strip()
    assert "grpc" not in loaded
    assert "httpx" not in loaded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frob"], "No such command 'frob'"),
        (["check", "--frob"], "No such option"),
        (["score"], "Missing option '--data'"),
    ],
)
def test_a_wrong_call_has_status_2_and_says_why_on_stderr(reward_server, arguments, message):
    ended = reward_server(*arguments)
    assert ended.status == 2
    assert message in ended.err
    assert ended.out == ""


@pytest.mark.parametrize("command", [["check"], ["list"], ["serve"], ["judge", "pull"]])
def test_every_command_tells_all_that_is_wrong_with_a_configuration(reward_server, command):
    Path("server.yaml").write_text("rewards: {a: {lenght: {}}}\nlimit: {}\n")
    ended = reward_server(*command)
    assert ended.status == 1
    assert ended.out == ""
    first, second = ended.err.splitlines()
    assert first.startswith("server.yaml:1: rewards.a.lenght: unknown kind; did you mean 'length'?")
    assert second.startswith("server.yaml:2: limit: unknown key; did you mean 'limits'?")


def test_without_a_configuration_the_way_to_one_is_shown(reward_server):
    ended = reward_server("check")
    assert ended == (1, "", "server.yaml: there is no such file; `reward-server example` prints one to start from\n")


def test_the_example_serves_as_it_is_and_loads_with_everything_switched_on(reward_server):
    text = reward_server("example").out
    Path("server.yaml").write_text(text)
    assert reward_server("check").status == 0
    all_on = re.sub(r"^( *)#(?! [^ ])", r"\1", text, flags=re.MULTILINE)
    without_tls = re.sub(r"^tls:.*\n", "", all_on, flags=re.MULTILINE)  # certificates that fit: see test_config_load.py
    Path("server.yaml").write_text(without_tls)
    Path("token.txt").write_text("s3cret")
    config = load("server.yaml")
    assert list(config.rewards) == ["brevity", "shape", "overall", "mine", "relevant"]
    assert (list(config.judges), list(config.engines)) == (["relevance"], ["box"])
    assert config.auth is not None


def test_check_shows_what_would_be_served(reward_server):
    Path("server.yaml").write_text(RULES)
    ended = reward_server("check")
    assert ended.status == 0
    assert ended.err == ""
    brevity = next(line for line in ended.out.splitlines() if "brevity" in line)
    assert [cell.strip() for cell in brevity.split("│")][1:6] == ["brevity", "length", "answer", "-", "0 to 1"]
    assert "server.yaml: 2 rewards, nothing wrong" in ended.out


def test_check_without_deep_asks_no_host_and_shows_no_version_that_hangs_on_one(reward_server):
    Path("server.yaml").write_text(JUDGED)
    ended = reward_server("check")
    assert ended.status == 0
    assert "nothing wrong; the judges' hosts were not asked (--deep does)" in ended.out
    rows = [[cell.strip() for cell in line.split("│")] for line in ended.out.splitlines() if "│" in line]
    assert rows == [
        ["", "relevant", "judge", "full", "prompts, gold", "0 to 1", "-", ""],
        ["", "both", "sum", "-", "prompts, gold", "0 to 1", "-", ""],
    ]


def test_list_says_why_a_judge_has_no_version(reward_server):
    Path("server.yaml").write_text(JUDGED)
    ended = reward_server("list")
    assert ended.status == 0
    assert "--deep" in ended.err


def test_a_server_that_speaks_openai_is_no_kind_but_is_told_which_one_asks_it(reward_server):
    Path("server.yaml").write_text("rewards: {a: {length: {target: 1, width: 1}}}\nengines: {box: {vllm: some-model}}")
    ended = reward_server("check")
    assert ended.status == 1
    assert "server.yaml:2: engines.box.vllm: is no kind of its own: for its OpenAI-compatible server" in ended.err


def test_a_jury_may_be_the_list_of_its_judges(reward_server):
    Path("server.yaml").write_text(
        "rewards: {a: {jury: [b, c]}}\n"
        "judges: {b: {engine: box, rubric: Is it brief?}, c: {engine: box, rubric: Is it true?}}\n"
        'engines: {box: {ollama: "m"}}'
    )
    assert reward_server("check").status == 0


def test_check_deep_says_why_a_host_cannot_serve(reward_server):
    Path("server.yaml").write_text(JUDGED)
    ended = reward_server("check", "--deep")
    assert ended.status == 1
    assert "not serving" in ended.out
    assert "server.yaml:5: rewards.relevant: engine `box` (http://127.0.0.1:9): no connection" in ended.err


def test_check_finds_a_function_that_is_not_there(reward_server):
    Path("server.yaml").write_text('rewards: {mine: {python: "none.py:f"}}')
    ended = reward_server("check")
    assert ended.status == 1
    assert ended.err.startswith("server.yaml:1: rewards.mine.python: there is no file ")
    assert "none.py" in ended.err
    assert "Traceback" not in ended.err


def test_check_notes_what_nobody_uses(reward_server):
    Path("server.yaml").write_text(JUDGED)
    assert "uses it" not in reward_server("check").out
    Path("server.yaml").write_text(RULES + "engines: {box: {ollama: m}}\n")
    assert "server.yaml:5: engines.box: no judge uses it" in reward_server("check").out
    Path("server.yaml").write_text(RULES + JUDGED.partition("rewards:")[0])
    assert "server.yaml:7: judges.good: no reward uses it" in reward_server("check").out


def test_check_refuses_what_serve_would_refuse(reward_server):
    Path("server.yaml").write_text(RULES + "listen: 0.0.0.0:8470\n")
    ended = reward_server("check")
    assert ended.status == 1
    assert "listen: 0.0.0.0:8470 can be reached from other machines, and there is no auth and no tls" in ended.err
    assert reward_server("check", "--insecure").status == 0


def test_list_as_json_is_for_programs(reward_server):
    Path("server.yaml").write_text(RULES)
    ended = reward_server("list", "--json")
    brevity, overall = json.loads(ended.out)
    assert (ended.status, ended.err) == (0, "")
    assert (brevity["name"], brevity["kind"], brevity["view"]) == ("brevity", "length", "answer")
    assert brevity["description"] == "short is good"
    assert brevity["score_range"] == [0.0, 1.0]
    assert len(brevity["version"]) == 16
    assert brevity["version"] != overall["version"]


def test_list_shows_a_table(reward_server):
    Path("server.yaml").write_text(RULES)
    ended = reward_server("list")
    assert ended.status == 0
    assert "brevity" in ended.out
    assert "overall" in ended.out


def test_the_package_can_be_run_as_a_module():
    ended = subprocess.run(
        [sys.executable, "-m", "reward_server", "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout == f"reward-server {__version__}\n"


def test_a_reader_that_has_had_enough_gets_no_traceback():
    script = f"{sys.executable} -m reward_server example | head -c 1; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in ended.stderr


def test_kinds_lists_every_kind_in_a_line(reward_server):
    ended = reward_server("kinds")
    assert ended.status == 0
    listed = [line.split()[0] for line in ended.out.splitlines() if line.strip()]
    assert set(BUILT_IN_SCORERS) <= set(listed)


@pytest.mark.parametrize("kind", BUILT_IN_SCORERS)
def test_kinds_explains_each_with_an_example_its_columns_and_its_range(reward_server, kind):
    ended = reward_server("kinds", kind)
    assert ended.status == 0
    for words in ("Columns:", "Range:", "Cost class:", f"{kind}:"):
        assert words in ended.out
    for option in SCORERS[kind].Options.model_fields.values():
        assert (option.description or "").split(" ")[0] in ended.out


def test_kinds_are_listed_under_the_headings_of_the_page(reward_server):
    page = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text()
    headings = {}
    for line in page.splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif line.startswith("### reward "):
            headings.setdefault(heading, set()).add(line.removeprefix("### reward "))
    assert {heading: set(kinds) for heading, kinds in GROUPS.items()} == headings
    out = reward_server("kinds").out
    assert out.index("Code") < out.index("Runs a completion's program") < out.index("Rewards made of others")


def test_kinds_of_one_module_have_each_its_own_first_line(reward_server):
    lines = [line for line in reward_server("kinds").out.splitlines() if line.strip()]
    said = {line.split()[0]: line.split(maxsplit=1)[-1].strip() for line in lines}
    assert said["min"] == "The lowest score of other rewards."
    assert said["max"] == "The highest score of other rewards."
    assert said["clip"] != said["rescale"]
    assert reward_server("kinds", "max").out.startswith("The highest score of other rewards.\n")


@pytest.mark.parametrize("kind", BUILT_IN_SCORERS)
def test_the_examples_of_a_kind_can_be_pasted_into_a_configuration(reward_server, kind):
    blocks = [block for block in reward_server("kinds", kind).out.split("\n\n") if "rewards:" in block]
    examples = [parse(textwrap.dedent(block), "pasted") for block in blocks if block.startswith("    ")]
    assert examples
    for example in examples:
        assert example.problems == []
        assert all(body.keys() & SCORERS.keys() for body in example.value["rewards"].values())


def test_a_library_that_is_missing_is_no_reason_not_to_list_the_kinds(reward_server, monkeypatch):
    monkeypatch.setattr(kinds_command, "SCORERS", lacking("math", "re2"))
    ended = reward_server("kinds")
    assert ended.status == 0
    assert "needs the library 're2': pip install 'grpo-reward-service[server]'" in ended.out


def test_libraries_that_are_missing_are_all_named_with_line_and_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("server.yaml").write_text("rewards:\n  a: {math: {}}\n  b: {reasoning_gym: {}}\n")
    gym = "needs the library 'reasoning_gym': pip install 'grpo-reward-service[reasoning-gym]'"
    with pytest.raises(ConfigError) as caught:
        load("server.yaml", scorers=lacking("math", "re2", "reasoning_gym", "reasoning_gym"))
    assert caught.value.problems == (
        "server.yaml:2: rewards.a.math: needs the library 're2': pip install 'grpo-reward-service[server]'",
        f"server.yaml:3: rewards.b.reasoning_gym: {gym}",
    )


def lacking(*pairs):
    """Returns the kinds, some of which lack a library: kind, library, kind, library, ..."""

    class Offer(EntryPoint):
        def load(self):
            if (library := missing.get(self.name)) is not None:
                raise ModuleNotFoundError(f"No module named '{library}.inner'", name=f"{library}.inner")
            return super().load()

    missing = dict(zip(pairs[::2], pairs[1::2], strict=True))
    offers = [Offer(name, value, SCORER_GROUP) for name, value in BUILT_IN_SCORERS.items()]
    return Kinds("scorer", ("kind",), offers)


@pytest.mark.parametrize(("module", "named"), [("structlog", True), ("reward_server.none", False)])
def test_a_command_without_the_servers_libraries_names_their_extra(reward_server, monkeypatch, module, named):
    def check(*arguments, **options):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(checking, "check", check)
    if named:
        remedy = "needs the library 'structlog': pip install 'grpo-reward-service[server]'"
        assert reward_server("check") == (1, "", f"{remedy}\n")
    else:  # one of its own: a bug, and shown as one
        with pytest.raises(ModuleNotFoundError):
            reward_server("check")


REMOTE = """
rewards:
  theirs: {endpoint: "http://127.0.0.1:9"}
  skywork: {reward_model: {protocol: vllm_classify, url: "http://127.0.0.1:9", activation: sigmoid}}
  solves: {code: {tests_column: tests, sandbox: {url: "http://127.0.0.1:9"}}}
"""


def test_check_without_deep_asks_no_server_of_a_reward_either(reward_server, monkeypatch):
    Path("server.yaml").write_text(REMOTE)
    asked = []
    ask = Host.request

    async def noted(self, *arguments):
        asked.append(arguments)
        return await ask(self, *arguments)

    monkeypatch.setattr(Host, "request", noted)
    ended = reward_server("check")
    assert (ended.status, ended.err, asked) == (0, "", [])
    assert "nothing wrong; the servers of rewards were not asked (--deep does)" in ended.out
    assert "the servers of rewards were not asked" in reward_server("list").err
    assert asked == []

    ended = reward_server("check", "--deep")
    assert ended.status == 1
    assert all(f"rewards.{name}: " in ended.err for name in ("theirs", "skywork", "solves"))
    assert asked != []


TRIED = """
engines: {box: {ollama: {model: m}}}
judges:
  good: {engine: box, rubric: Is it good?}
  versus: {engine: box, method: pairwise, rubric: Is it helpful?, reference_column: gold}
rewards:
  relevant: {judge: good}
  better: {judge: versus}
"""


def check_with(monkeypatch, reward_server, answer, *arguments):
    """Runs `check` with an engine whose model answers so; returns how it ended, and the questions."""
    asked = []

    class Box(ScriptedEngine):
        kind = "ollama"

        def __init__(self, name, options, folder):
            super().__init__(lambda question: asked.append(question) or answer(question))

    monkeypatch.setattr(checking, "ENGINES", {**ENGINES, "ollama": Box})
    monkeypatch.setenv("XDG_STATE_HOME", str(Path.cwd() / "state"))
    Path("server.yaml").write_text(TRIED)
    return reward_server(*arguments), asked


def test_check_deep_asks_each_judge_a_plain_question(reward_server, monkeypatch):
    def answer(question):
        return labels({"A": 0.9, "B": 0.1}) if "A" in (question.labels or {}) else yes_no(0.9)

    ended, asked = check_with(monkeypatch, reward_server, answer, "check", "--deep")
    assert (ended.status, ended.err) == (0, "")
    assert any("Is it good?" in shown(question) for question in asked)
    assert any("Is it helpful?" in shown(question) for question in asked)
    assert all("capital of France" in shown(question) for question in asked)


def test_check_deep_finds_a_judge_whose_answers_are_of_no_use(reward_server, monkeypatch):
    ended, _ = check_with(monkeypatch, reward_server, lambda question: said("Well, dear me."), "check", "--deep")
    assert ended.status == 1
    for line, judge in ((4, "good"), (5, "versus")):
        assert f"server.yaml:{line}: judges.{judge}: gives no verdict on a plain question: " in ended.err
    assert "nothing wrong" not in ended.out


@pytest.mark.parametrize("arguments", [["check"], ["list"], ["list", "--deep"]])
def test_nothing_but_check_deep_asks_a_judge_anything(reward_server, monkeypatch, arguments):
    ended, asked = check_with(monkeypatch, reward_server, lambda question: said("no"), *arguments)
    assert (ended.status, asked) == (0, [])


def test_a_kind_that_is_none_is_named_with_one_that_is(reward_server):
    ended = reward_server("kinds", "maths")
    assert ended.status == 1
    assert "Did you mean 'math'?" in ended.err
