"""What `load` says of configurations, right and wrong: every test reads the message that a person gets."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from reward_server.config import check_exposure, load
from reward_server.errors import ConfigError
from reward_server.options import Options
from reward_server.registry import SCORERS as BUILT_IN
from reward_server.views import View


class Step(Options):
    below: int
    score: float


class LengthOptions(Options):
    unit: Literal["words", "characters"] = Field("words", description="what is counted")
    target: float = Field(description="the length that scores best")
    width: float = Field(30, gt=0)
    steps: tuple[Step, ...] | None = Field(None, min_length=1)
    either: int | float | Literal["auto"] = 0


class JudgeOptionsStandIn(Options):
    shorthand: ClassVar[str | None] = "judge"
    judge: str

    def judges_used(self):
        return [self.judge]


class SumOptions(Options):
    parts: dict[str, float]

    def rewards_used(self):
        return self.parts


class HostOptions(Options):
    shorthand: ClassVar[str | None] = "model"
    model: str
    url: str = "http://127.0.0.1:1"
    weights: Path | None = None
    token_env: str | None = None


def kind(options):
    return type("StandIn", (), {"Options": options})


SCORERS = {"length": kind(LengthOptions), "judge": kind(JudgeOptionsStandIn), "sum": kind(SumOptions)}
ENGINES = {"host": kind(HostOptions)}
GOOD = "rewards: {brevity: {length: {target: 10}}}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to configure in, the current one, so that messages show short paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(text, **options):
    Path("server.yaml").write_text(text)
    return load("server.yaml", scorers=SCORERS, engines=ENGINES, **options)


def problems(text, **options):
    with pytest.raises(ConfigError) as caught:
        configured(text, **options)
    return list(caught.value.problems)


def test_defaults_fill_what_the_file_leaves_out(folder):
    config = configured(GOOD)
    assert (config.path, config.folder, config.listen) == (Path("server.yaml"), folder, "127.0.0.1:8470")
    assert (config.auth, config.tls) == (None, None)
    assert config.limits.max_request_bytes == 16 << 20
    assert config.limits.max_completion_bytes == 1 << 20
    assert (config.drain.notice_s, config.drain.grace_s) == (1.0, 20.0)
    assert config.workers.count >= 1
    reward = config.rewards["brevity"]
    assert (reward.name, reward.kind, reward.view, reward.description) == ("brevity", "length", View.FULL, "")
    assert reward.options == LengthOptions(target=10)


def test_a_whole_file_is_read(folder):
    config = configured("""
        listen: "[::1]:1234"
        limits: {max_request_mb: 1, max_completion_kb: 2, max_pending_calls: 3}
        drain: {notice_s: 0, grace_s: 5}
        workers: {count: 1, preload: [json]}
        engines: {box: {host: {model: m}}, bare: {host: n}}
        judges: {good: {engine: box, rubric: Is it good?}}
        rewards:
          z: {length: {target: 1}, view: answer, description: short is good}
          a: {judge: good}
          both: {sum: {parts: {z: 0.5, a: 1}}}
    """)
    assert config.listen == "[::1]:1234"
    assert config.workers.preload == ("json",)
    assert config.engines["bare"].options == HostOptions(model="n")
    assert config.judges["good"].engine == "box"
    assert list(config.rewards) == ["z", "a", "both"]
    assert config.rewards["z"].view is View.ANSWER
    assert config.rewards["a"].options == JudgeOptionsStandIn(judge="good")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # the file as a whole
        (
            "",
            (
                "server.yaml: must be a mapping that names rewards, such as rewards: {brevity: {length: {unit: words, target: "
                "10, width: 30}}}, found nothing"
            ),
        ),
        ("- a", "server.yaml: must be a mapping that names rewards"),
        ("listen: 127.0.0.1:1", "server.yaml: rewards: is missing: what trainers ask for, by name"),
        ("rewards: {}", "server.yaml:1: rewards: must not be empty: a server needs at least one reward"),
        ("rewards:", "server.yaml:1: rewards: must be a mapping (key: value), found nothing"),
        ("rewards: [a]", "server.yaml:1: rewards: must be a mapping (key: value), found a list"),
        (GOOD + "rewards: {}", "server.yaml:2: rewards: is given twice, first in line 1: keep one"),
        (
            GOOD + "listn: x",
            (
                "server.yaml:2: listn: unknown key; did you mean 'listen'? known: auth, drain, engines, judges, "
                "limits, listen, rewards, secret_file, tls, workers"
            ),
        ),
        # plain sections
        (
            GOOD + "limits: {max_request_mb: big}",
            "server.yaml:2: limits.max_request_mb: must be a whole number (largest request, MiB), found 'big'",
        ),
        (GOOD + "limits: {max_request_mb: true}", "must be a whole number (largest request, MiB), found true"),
        (GOOD + "limits: {max_request_mb: 1.5}", "must be a whole number (largest request, MiB), found 1.5"),
        (GOOD + "limits: {max_request_mb: 4096}", "limits.max_request_mb: must be at most 2047, found 4096"),
        (GOOD + "limits: {max_request_mb: 1}", "limits: max_completion_kb (1024) does not fit into max_request_mb (1)"),
        (GOOD + "drain: {notice_s: -1}", "server.yaml:2: drain.notice_s: must be at least 0, found -1"),
        (GOOD + "drain: {grace_s: .inf}", "server.yaml:2: drain.grace_s: must be a finite number, found .inf"),
        (GOOD + "workers: 4", "server.yaml:2: workers: must be a mapping (key: value), found 4"),
        (GOOD + "workers: {count: 0}", "server.yaml:2: workers.count: must be at least 1, found 0"),
        (GOOD + "workers: {preload: json}", "server.yaml:2: workers.preload: must be a list, found 'json'"),
        # names and kinds
        (
            "rewards: {a b: {length: {target: 1}}}",
            (
                "server.yaml:1: rewards.a b: is no name: it needs 1 to 100 letters, digits, "
                "'_', '-' or '.', the first a letter or digit"
            ),
        ),
        ("rewards: {a/b: {length: {target: 1}}}", "rewards.a/b: is no name"),
        (
            "rewards: {a: length}",
            ("server.yaml:1: rewards.a: must be a mapping with its kind as key (length, judge, sum), found 'length'"),
        ),
        ("rewards: {a: {view: full}}", "server.yaml:1: rewards.a: lacks its kind: one of length, judge, sum"),
        ("rewards: {a: {lenght: {}}}", "server.yaml:1: rewards.a.lenght: unknown kind; did you mean 'length'? known: "),
        (
            "rewards:\n  a:\n    length: {target: 1}\n    veiw: full",
            "server.yaml:4: rewards.a.veiw: unknown key; did you mean 'view'? known: ",
        ),
        (
            "rewards: {a: {length: {target: 1}, judge: b}}",
            (
                "server.yaml:1: rewards.a: has 2 kinds, length and judge: keep one; "
                "to combine rewards give each a name and use 'sum'"
            ),
        ),
        (
            "rewards: {a: {length: {target: 1}, view: anwser}}",
            (
                "server.yaml:1: rewards.a.view: must be 'full', 'answer' or "
                "'messages' (did you mean 'answer'?), found 'anwser'"
            ),
        ),
        (
            "rewards: {a: {length: {target: 1}, description: 5}}",
            "rewards.a.description: must be text (one line for people; ",
        ),
        # a kind's own options
        (
            "rewards: {a: {length: {unti: words, target: 1}}}",
            (
                "server.yaml:1: rewards.a.length.unti: unknown key; did you mean "
                "'unit'? known: either, steps, target, unit, width"
            ),
        ),
        ("rewards: {a: {length: }}", "server.yaml:1: rewards.a.length.target: is missing: the length that scores best"),
        ("rewards: {a: {length: 5}}", "server.yaml:1: rewards.a.length: must be a mapping (key: value), found 5"),
        (
            "rewards: {a: {length: {target: ten}}}",
            "rewards.a.length.target: must be a number (the length that scores best), found 'ten'",
        ),
        (
            "rewards: {a: {length: {target: 1, unit: wrds}}}",
            ("rewards.a.length.unit: must be 'words' or 'characters' (did you mean 'words'?), found 'wrds'"),
        ),
        ("rewards: {a: {length: {target: 1, width: 0}}}", "rewards.a.length.width: must be more than 0, found 0"),
        (
            "rewards:\n  a:\n    length:\n      target: 1\n      steps:\n        - {below: 1, score: 0}\n        - {belw: 1, score: 0}",
            "server.yaml:7: rewards.a.length.steps[1].belw: unknown key; did you mean 'below'? known: below, score",
        ),
        (
            "rewards: {a: {length: {target: [1, 2]}}}",
            ("rewards.a.length.target: must be a number (the length that scores best), found a list"),
        ),
        ("rewards: {a: {length: {target: 1, steps: []}}}", "server.yaml:1: rewards.a.length.steps: must not be empty"),
        (
            "rewards: {a: {length: {target: 1, either: [x]}}}",
            "rewards.a.length.either: must be a whole number, or must be a number, or must be 'auto', found a list",
        ),
        (
            "rewards: {b: {length: {target: 1}}, a: {sum: {parts: {b: 1}}, view: full}}",
            "server.yaml:1: rewards.a.view: has no effect on a reward made of others, which keep their own: remove it",
        ),
        # references
        (
            "rewards: {a: {judge: godo}}\njudges: {good: {engine: box, rubric: x}}\nengines: {box: {host: m}}",
            "server.yaml:1: rewards.a.judge: unknown judge; did you mean 'good'? known: good (see 'judges')",
        ),
        (
            GOOD + "judges: {good: {engine: bix, rubric: x}}\nengines: {box: {host: m}}",
            "server.yaml:2: judges.good.engine: unknown engine; did you mean 'box'? known: box (see 'engines')",
        ),
        (
            GOOD + "judges: {good: {engine: box, rubric: x}}",
            "server.yaml:2: judges.good.engine: unknown engine; known: none (see 'engines')",
        ),
        (GOOD + "judges: {good: {rubric: x}}", "server.yaml:2: judges.good.engine: is missing"),
        (GOOD + "judges: {good: }", "server.yaml:2: judges.good: must be a mapping (key: value), found nothing"),
        (
            "rewards:\n  b: {length: {target: 1}}\n  a:\n    sum:\n      parts:\n        c: 1",
            "server.yaml:6: rewards.a.sum.parts.c: unknown reward; known: a, b (see 'rewards')",
        ),
        ("rewards:\n  a: {sum: {parts: {a: 1}}}", "server.yaml:2: rewards.a.sum.parts.a: is made of itself: a -> a"),
        (
            "rewards:\n  a: {sum: {parts: {b: 1}}}\n  b: {sum: {parts: {c: 1}}}\n  c: {sum: {parts: {a: 1}}}",
            "is made of itself: a -> b -> c -> a",
        ),
        # outside the file
        (
            GOOD + "engines: {box: {host: {model: m, weights: x.gguf}}}",
            (
                "server.yaml:2: engines.box.host.weights: there is no "
                "file x.gguf (relative paths start at the configuration's folder, "
            ),
        ),
        (
            GOOD + "engines: {box: {host: {model: m, token_env: UNSET_AS_IT_IS}}}",
            (
                "server.yaml:2: engines.box.host.token_env: "
                "the environment variable that it names is not set; it takes the variable's name, not the token"
            ),
        ),
        (
            GOOD + "judges: {good: {engine: box, rubric_file: none.txt}}\nengines: {box: {host: m}}",
            "server.yaml:2: judges.good.rubric_file: there is no file none.txt (relative paths start at ",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line_key_value_and_remedy(folder, text, message):
    said = problems(text)
    assert any(message in line for line in said), said
    assert all(line.startswith("server.yaml:") for line in said)
    assert not any("Input" in line or "pydantic" in line for line in said)


REAL = "rewards:\n  s: {length: {target: 1, width: 1}}\n  a:"


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("{thinkng: {}}", "unknown kind; known: bleu, "),
        ("{lenght: {}}", "unknown kind; did you mean 'length'? known: bleu, "),
        ("{lenght: {}}", "; beside the kind may stand: view, description, floor (of a plug-in? install its package)"),
        (
            "{length: {target: 1, width: 1}, weight: 2}",
            "rewards.a.weight: is nothing that a reward has: weights stand in `sum`, or in the trainer (reward_weights)",
        ),
        (
            "{length: {target: 1, width: 1}, target: 2}",
            "rewards.a.target: unknown key; known: view, description, floor (a kind's own options stand under the kind)",
        ),
        ("{sum: [s]}", "rewards.a.sum: each part needs its weight: write sum: {s: 1.0}"),
        ("{sum: s}", "rewards.a.sum: each part needs its weight: write sum: {s: 1.0}"),
        ("{sum: {parts: [s, t]}}", "rewards.a.sum: each part needs its weight: write sum: {s: 1.0, t: 1.0}"),
        (
            "{format: {tags: {names: [<think>, </answer>], score: 1}}}",
            "rewards.a.format.tags.names[0]: write think, without < >",
        ),
        ("{format: {thinking: {tag: <think>, score: 1}}}", "rewards.a.format.thinking.tag: write think, without < >"),
        (
            "{format: {thinking: {score: 1}}, view: answer}",
            "rewards.a.view: hides the thinking block, which `thinking` looks for and so would never find: give it view: full",
        ),
        (
            "{format: {tags: {names: [think, answer], score: 1}}, view: answer}",
            "rewards.a.view: hides the thinking block, which `tags` looks for and so would never find: give it view: full",
        ),
    ],
)
def test_a_mistake_in_a_built_in_kind_is_named_with_its_remedy(folder, reward, message):
    Path("server.yaml").write_text(f"{REAL} {reward}")
    with pytest.raises(ConfigError) as caught:
        load("server.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("server.yaml:3: ")


@pytest.mark.parametrize(
    "reward",
    [
        "{format: {thinking: {score: 1}}}",
        "{format: {thinking: {score: 1, tag: reasoning}}, view: answer}",
        "{format: {tags: {names: [answer], score: 1}}, view: answer}",
        "{format: {tags: {names: [think], score: 1}}, view: messages}",
    ],
)
def test_a_view_that_hides_nothing_is_allowed(folder, reward):
    Path("server.yaml").write_text(f"{REAL} {reward}")
    assert load("server.yaml").rewards


def test_kinds_and_what_stands_beside_them_are_told_apart(folder):
    Path("server.yaml").write_text(f"{REAL} {{lenght: {{}}}}")
    with pytest.raises(ConfigError) as caught:
        load("server.yaml")
    known = str(caught.value).partition("known: ")[2].partition(";")[0].split(", ")
    assert known == list(BUILT_IN)


def test_all_mistakes_are_named_in_one_go_in_the_order_of_the_file(folder):
    said = problems("""
limits: {max_request_mb: none}
rewards:
  a: {lenght: {}}
  b: {length: {target: x, wdth: 2}}
  c: {sum: {parts: {d: 1}}}
judges: {j: {engine: e, rubric: r}}
""")
    assert [line.split(" ")[0] + line.split(" ")[1] for line in said] == [
        "server.yaml:2:limits.max_request_mb:",
        "server.yaml:4:rewards.a.lenght:",
        "server.yaml:5:rewards.b.length.target:",
        "server.yaml:5:rewards.b.length.wdth:",
        "server.yaml:6:rewards.c.sum.parts.d:",
        "server.yaml:7:judges.j.engine:",
    ]


@pytest.mark.parametrize(
    ("problem", "located"),
    [
        ("rewards.brevity.length: too short", "server.yaml:3: rewards.brevity.length: too short"),
        ("rewards.brevity.length.function: gone", "server.yaml:3: rewards.brevity.length.function: gone"),
        ("rewards.brevity: of no use", "server.yaml:2: rewards.brevity: of no use"),
        ("engines.box: away", "server.yaml: engines.box: away"),
        ("no key at all", "server.yaml: no key at all"),
        ("server.yaml: listen: taken", "server.yaml: listen: taken"),
    ],
)
def test_what_is_found_wrong_later_gets_its_line_too(folder, problem, located):
    config = configured("rewards:\n  brevity:\n    length: {target: 10}\n")
    assert config.located(problem) == located


def chain_of_sums(count):
    sums = [f"  s{number}: {{sum: {{parts: {{s{number - 1}: 1}}}}}}\n" for number in range(1, count + 1)]
    return "rewards:\n  s0: {length: {target: 1}}\n" + "".join(sums)


def test_sums_of_sums_have_a_limit(folder):
    assert len(configured(chain_of_sums(16)).rewards) == 17
    assert problems(chain_of_sums(1_499)) == [
        (
            "server.yaml:19: rewards.s17.sum: is made of rewards made of others over 16 levels: "
            "make it of the lowest ones directly"
        )
    ]


def test_a_wrong_entry_of_a_list_is_one_mistake(folder):
    assert problems("rewards: {a: {length: {target: 1, steps: [{below: x, score: 1}]}}}") == [
        "server.yaml:1: rewards.a.length.steps[0].below: must be a whole number, found 'x'"
    ]


def test_a_reference_to_a_broken_entry_is_no_second_mistake(folder):
    said = problems("rewards: {a: {length: {}}, b: {sum: {parts: {a: 1}}}}")
    assert said == ["server.yaml:1: rewards.a.length.target: is missing: the length that scores best"]


def test_a_thousand_mistakes_are_not_all_listed(folder):
    said = problems("rewards:\n" + "".join(f"  r{i}: {{view: x}}\n" for i in range(1000)))
    assert len(said) == 51
    assert said[-1] == "server.yaml: ... and 1950 more"


def test_a_plug_in_that_cannot_be_loaded_breaks_only_who_uses_it(folder):
    class Broken(dict):
        def __getitem__(self, key):
            if key == "rhyme":
                raise ConfigError("the scorer kind 'rhyme' cannot be loaded")
            return super().__getitem__(key)

    scorers = Broken(SCORERS, rhyme=None)
    Path("server.yaml").write_text(GOOD)
    assert load("server.yaml", scorers=scorers, engines=ENGINES).rewards
    Path("server.yaml").write_text("rewards: {a: {rhyme: {}}}")
    with pytest.raises(ConfigError, match=r"server.yaml:1: rewards.a.rhyme: the scorer kind 'rhyme' cannot be loaded"):
        load("server.yaml", scorers=scorers, engines=ENGINES)


@pytest.mark.parametrize(
    ("listen", "target"),
    [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("localhost:1", "localhost:1"),
        ("'[::]:8470'", "[::]:8470"),
        ("my-box.local:65535", "my-box.local:65535"),
        ("unix:/tmp/x.sock", "unix:/tmp/x.sock"),
        ("unix:///tmp/x.sock", "unix:/tmp/x.sock"),
    ],
)
def test_addresses_to_listen_on(folder, listen, target):
    assert configured(f"{GOOD}listen: {listen}").listen == target


def test_a_relative_socket_starts_at_the_configurations_folder(folder):
    assert configured(f"{GOOD}listen: unix:x.sock").listen == f"unix:{folder}/x.sock"


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        ("8470", "must be text (host:port, [IPv6 address]:port or unix:/path), found 8470"),
        (":8470", "':8470' is no address: write host:port such as 127.0.0.1:8470 or [::1]:8470, or unix:/path"),
        ("127.0.0.1", "is no address: write host:port"),
        ("127.0.0.1:65536", "is no address: write host:port"),
        ("::1:8470", "is no address: write host:port"),
        ("http://localhost:1", "is no address: write host:port"),
        ("'[::g]:1'", "'[::g]:1' is no address: ::g is no IP address"),
        ("300.0.0.1:1", "'300.0.0.1:1' is no address: 300.0.0.1 is no IP address"),
        ("'unix:'", "unix: needs the path of a socket"),
        ("unix:/no/such/folder/x.sock", "there is no folder /no/such/folder for the socket"),
        (f"unix:/{'x' * 200}", "is longer than the 107 bytes that a Unix socket's path may have"),
    ],
)
def test_what_is_no_address_is_refused(folder, listen, message):
    (said,) = problems(f"{GOOD}listen: {listen}")
    assert said.startswith("server.yaml:2: listen: ")
    assert message in said


def test_an_address_from_the_command_line_takes_the_files_place(folder):
    assert configured(f"{GOOD}listen: 0.0.0.0:1", listen="127.0.0.1:2").listen == "127.0.0.1:2"
    assert problems(GOOD, listen="nonsense") == [
        "--listen: 'nonsense' is no address: write host:port such as 127.0.0.1:8470 or [::1]:8470, or unix:/path"
    ]


def test_the_token_comes_from_a_file_or_the_environment(folder, monkeypatch):
    Path("token.txt").write_text("s3cret\n")
    monkeypatch.setenv("REWARD_TOKEN", " s3cret-too ")
    in_file = configured(GOOD + "auth: {token_file: token.txt}")
    in_environment = configured(GOOD + "auth: {token_env: REWARD_TOKEN}")
    assert in_file.auth.token.get_secret_value() == "s3cret"
    assert in_environment.auth.token.get_secret_value() == "s3cret-too"


def test_the_token_is_not_in_the_configurations_repr(folder):
    Path("token.txt").write_text("s3cret")
    config = configured(GOOD + "auth: {token_file: token.txt}")
    assert "s3cret" not in repr(config) + str(config) + config.model_dump_json()


@pytest.mark.parametrize(
    ("auth", "message"),
    [
        ("", "auth: is empty: give its keys, or remove it"),
        ("{}", "auth: needs either token_file or token_env, one of them"),
        ("{token_file: t, token_env: T}", "auth: needs either token_file or token_env, one of them"),
        ("{token: s3cret}", "auth.token: unknown key; did you mean 'token_env'? known: token_env, token_file"),
        ("s3cret", "auth: must be a mapping (key: value)"),
        ("{token_file: [s3cret]}", "auth.token_file: must be a path (file whose only line is the token)"),
        ("{token_file: none.txt}", "auth.token_file: there is no file none.txt (relative paths start at"),
        ("{token_file: none.txt}", "make one with: openssl rand -hex 32 > none.txt"),
        ("{token_file: .}", "auth.token_file: . is a folder, not a file"),
        ("{token_file: empty.txt}", "auth.token_file: the file empty.txt is empty: it must hold the token"),
        (
            "{token_file: two.txt}",
            "auth.token_file: the file two.txt holds more than a token: it must be one line of visible",
        ),
        ("{token_file: latin.txt}", "auth.token_file: the file latin.txt holds more than a token"),
        ("{token_file: long.txt}", "auth.token_file: the file long.txt holds more than 4096 bytes"),
        (
            "{token_env: s3cret}",
            "auth.token_env: the environment variable that it names is not set; it takes the variable's",
        ),
        (
            "{token_env: s3cret-key}",
            "auth.token_env: must be the name of an environment variable, such as REWARD_TOKEN",
        ),
        ("{token_env: EMPTY_TOKEN}", "auth.token_env: the environment variable that it names is empty"),
    ],
)
def test_a_bad_token_is_explained_and_never_shown(folder, monkeypatch, auth, message):
    monkeypatch.setenv("EMPTY_TOKEN", " ")
    contents = {"empty": b"\n", "two": b"s3cret\ns3cret", "latin": b"s3cret\xe9", "long": b"s3cret" * 4096}
    for name, content in contents.items():
        Path(f"{name}.txt").write_bytes(content)
    (said,) = problems(f"{GOOD}auth: {auth}")
    assert said.startswith("server.yaml:2: ")
    assert message in said
    assert "s3cret" not in said


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A folder with a.crt, a.key and b.key, of which the last fits nothing."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    made = tmp_path_factory.mktemp("certificates")
    for name in "ab":
        command = (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
        )
        files = ["-keyout", f"{name}.key", "-out", f"{name}.crt"]
        subprocess.run([*command.split(), *files], cwd=made, check=True, capture_output=True)
    command = "openssl ec -in a.key -aes256 -passout pass:x -out locked.key"
    subprocess.run(command.split(), cwd=made, check=True, capture_output=True)
    (made / "garbled.crt").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    (made / "other.txt").write_text("hello")
    return made


def test_certificates_become_absolute_paths(folder, certificates):
    Path("certs").symlink_to(certificates)
    config = configured(GOOD + "tls: {certificate: certs/a.crt, key: certs/a.key, client_ca: certs/b.crt}")
    assert config.tls.certificate == folder / "certs/a.crt"
    assert config.tls.client_ca == folder / "certs/b.crt"


@pytest.mark.parametrize(
    ("tls", "messages"),
    [
        ("", ["server.yaml:2: tls: is empty: give its keys, or remove it"]),
        (
            "{}",
            [
                "tls.certificate: is missing: the server's certificate",
                "tls.key: is missing: the certificate's private key",
            ],
        ),
        (
            "{certificate: no.crt, key: no.key}",
            ["tls.certificate: there is no file no.crt", "tls.key: there is no file no.key"],
        ),
        (
            "{certificate: certs/other.txt, key: certs/a.key}",
            ["tls.certificate: certs/other.txt holds no PEM block -----BEGIN CERTIFICATE-----"],
        ),
        (
            "{certificate: certs/a.crt, key: certs/a.crt}",
            ["tls.key: certs/a.crt holds no PEM block -----BEGIN PRIVATE KEY-----"],
        ),
        ("{certificate: certs/a.crt, key: certs/b.key}", ["tls.key: is not the key of tls.certificate"]),
        ("{certificate: certs/garbled.crt, key: certs/b.key}", ["tls.key: can't be used with tls.certificate: "]),
        (
            "{certificate: certs/a.crt, key: certs/locked.key}",
            ["tls.key: certs/locked.key has a passphrase, which nobody"],
        ),
        ("{certificate: certs/a.crt, key: certs/a.key, client_ca: no.crt}", ["tls.client_ca: there is no file no.crt"]),
    ],
)
def test_bad_certificates_are_explained(folder, certificates, tls, messages):
    Path("certs").symlink_to(certificates)
    said = problems(f"{GOOD}tls: {tls}")
    assert len(said) == len(messages)
    assert all(message in line for message, line in zip(messages, said, strict=True))


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.1.2.3:1", "'[::1]:1'", "localhost:1", "unix:x.sock"])
def test_what_only_this_machine_can_reach_needs_no_token(folder, listen):
    check_exposure(configured(f"{GOOD}listen: {listen}"), insecure=False)


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "'[::]:1'", "10.0.0.1:1", "box.example:1"])
def test_off_loopback_needs_a_token_and_tls_or_insecure(folder, listen):
    config = configured(f"{GOOD}listen: {listen}")
    check_exposure(config, insecure=True)
    with pytest.raises(ConfigError) as caught:
        check_exposure(config, insecure=False)
    said = str(caught.value)
    assert said.startswith(
        f"server.yaml: listen: {config.listen} can be reached from other machines, and there is no auth "
    )
    assert "auth: {token_file: token.txt}" in said
    assert "tls: {certificate: server.crt, key: server.key}" in said
    assert "--insecure" in said


def test_off_loopback_with_token_and_tls_is_fine_and_with_one_alone_is_not(folder, certificates):
    Path("certs").symlink_to(certificates)
    Path("token.txt").write_text("s3cret")
    auth, tls = "auth: {token_file: token.txt}\n", "tls: {certificate: certs/a.crt, key: certs/a.key}\n"
    open_to_all = GOOD + "listen: 0.0.0.0:1\n"
    check_exposure(configured(open_to_all + auth + tls), insecure=False)
    with pytest.raises(ConfigError, match=r"there is no tls. Add tls: \{certificate: "):
        check_exposure(configured(open_to_all + auth), insecure=False)
    with pytest.raises(ConfigError, match=r"there is no auth. Add auth: \{token_file: "):
        check_exposure(configured(open_to_all + tls), insecure=False)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
KEYS = st.sampled_from(
    ["listen", "auth", "tls", "limits", "drain", "workers", "engines", "judges", "rewards", "a", "b", "length", "sum",
     "judge", "parts", "view", "description", "host", "engine", "rubric", "rubric_file", "token_file", "token_env", "count"]
)  # fmt: skip
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=25
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(KEYS, TREES, max_size=9))
def test_any_tree_is_a_configuration_or_its_problems(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(json.dumps(tree))
    try:
        said = () if load(path, scorers=SCORERS, engines=ENGINES).rewards else ("no reward",)
    except ConfigError as error:
        said = error.problems
    assert all(line.startswith(f"{path}:") for line in said)
