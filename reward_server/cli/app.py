"""The commands and their help. Each imports what it needs when it runs, so that `--help` does not wait for grpc."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from reward_server import __version__, memory

app = typer.Typer(
    help="A reward server for GRPO: named rewards (rules, Python functions, LLM judges) behind one gRPC service.\n\n"
    "Start with `reward-server example > server.yaml`, see what it would serve with `reward-server check`, then "
    "`reward-server serve`.",
    rich_markup_mode="markdown",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
judge_app = typer.Typer(help="Try a judge, measure it, and fetch the judges' models.", no_args_is_help=True)
app.add_typer(judge_app, name="judge")


class LogFormat(StrEnum):
    """How logs are written."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """What is logged, and what is more serious."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Config = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", help="The server's configuration, YAML.", show_default=True)
]
Deep = Annotated[
    bool, typer.Option("--deep", help="Start the judges' engines too, and ask all hosts whether they can serve.")
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Let other machines in although there is no token or no TLS.")
]
DEFAULT_CONFIG: Final = Path("server.yaml")


def _show_version(asked: bool) -> None:  # noqa: FBT001  # typer calls it with the flag's value
    if asked:
        typer.echo(f"reward-server {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    *,
    config: Config = DEFAULT_CONFIG,
    listen: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Take this address instead of the configuration's `listen`.")
    ] = None,
    insecure: Insecure = False,
    ready_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Write {"target": ..., "pid": ...} here once the server answers.'),
    ] = None,
    until_stdin_closes: Annotated[
        bool, typer.Option("--until-stdin-closes", help="Drain and end when stdin reaches its end.")
    ] = False,
    log_format: Annotated[
        LogFormat, typer.Option(help="Readable lines, or JSON; auto: readable on a terminal.")
    ] = LogFormat.AUTO,
    log_level: Annotated[LogLevel, typer.Option(help="Log this and what is more serious.")] = LogLevel.INFO,
) -> None:
    """Serves the rewards of a configuration until SIGTERM or Ctrl-C; running calls may then finish.

    A second signal ends it at once, with exit status 1. Logs go to stderr.

    Example: `reward-server serve --config server.yaml`

    For a network where everybody may read and ask: `reward-server serve --listen 0.0.0.0:8470 --insecure`
    """
    from reward_server.cli import serving  # noqa: PLC0415  # see the module's docstring

    server = serving.Serving(config, listen, insecure, ready_file, until_stdin_closes)
    raise typer.Exit(server.run(log_format.value, log_level.value))


@app.command()
def check(*, config: Config = DEFAULT_CONFIG, deep: Deep = False, insecure: Insecure = False) -> None:
    """Says what a configuration would serve, or all that is wrong with it.

    Rules and Python functions are loaded; other hosts (of judges, reward models, endpoints) are only asked with `--deep`,
    which takes as long as loading the judges' models does, and asks each judge a plain question. Exit status 1 if a
    reward could not be served.

    Example: `reward-server check --config server.yaml --deep`
    """
    from reward_server.cli import checking  # noqa: PLC0415  # see the module's docstring

    raise typer.Exit(checking.check(config, deep=deep, insecure=insecure))


@app.command(name="list")
def list_(
    *,
    config: Config = DEFAULT_CONFIG,
    deep: Deep = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Lists the rewards of a configuration: kind, view, what they need, version.

    Example: `reward-server list --json | jq '.[].name'`
    """
    from reward_server.cli import checking  # noqa: PLC0415  # see the module's docstring

    checking.list_rewards(config, deep=deep, as_json=as_json)


@app.command()
def kinds(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help="One of them, to be explained.")] = None,
) -> None:
    """Lists the kinds of rewards, installed plug-ins among them, or explains one: options, examples, columns, range.

    Example: `reward-server kinds math`
    """
    from reward_server.cli import kinds as showing_kinds  # noqa: PLC0415  # see the module's docstring

    raise typer.Exit(showing_kinds.show_kind(kind) if kind else showing_kinds.list_kinds())


@app.command()
def score(
    *,
    config: Config = DEFAULT_CONFIG,
    data: Annotated[
        Path,
        typer.Option(metavar="FILE", help='JSON lines: {"prompt": ..., "completion": ..., and columns}; "-" is stdin.'),
    ],
    reward: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A reward's name; may be given again. Default: all.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write JSON lines here instead of to stdout.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines on a terminal too.")] = False,
    batch_size: Annotated[
        int,
        typer.Option(min=1, help="Samples a call; completions of one prompt that follow one another stay together."),
    ] = 64,
    timeout_s: Annotated[float, typer.Option(min=0.001, help="Time for one call, seconds.")] = 600.0,
) -> None:
    """Scores a file of completions here, without a server and without training.

    Prompts and completions are texts or lists of messages; every other key is a column, null where a line lacks it. For
    lengths in tokens a line has `completion_token_count` or `completion_ids`. Each line comes back with `verdicts` by
    reward. Exit status 1 if a verdict failed.

    Example: `reward-server score --config server.yaml --reward brevity --data samples.jsonl --out scored.jsonl`
    """
    from reward_server.cli import scoring  # noqa: PLC0415  # see the module's docstring

    scorer = scoring.FileScoring(config, data, tuple(reward or ()), batch_size, timeout_s)
    raise typer.Exit(scorer.run(out, as_json=as_json))


@judge_app.command()
def pull(
    *,
    config: Config = DEFAULT_CONFIG,
    judge: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A judge's name; may be given again. Default: all.")
    ] = None,
) -> None:
    """Fetches the models of the configured judges to their Ollama hosts.

    Example: `reward-server judge pull --config server.yaml`
    """
    from reward_server.cli import pulling  # noqa: PLC0415  # see the module's docstring

    raise typer.Exit(pulling.pull(config, tuple(judge or ())))


@judge_app.command(name="try")
def try_(
    *,
    config: Config = DEFAULT_CONFIG,
    reward: Annotated[str | None, typer.Option(metavar="NAME", help="A reward's name.")] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="NAME", help="Or a judge's, without the reward around it.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="The prompt; @FILE reads it from a file.")] = None,
    completion: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="The completion; @FILE reads it from a file. Given again: others that it is compared with.",
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=TEXT", help="A column, such as reference=42; may be given again; @FILE as above."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Or a file of samples, as for `score`, and the line to take.")
    ] = None,
    line: Annotated[
        int, typer.Option(min=1, help="The line of --data; a judge that compares sees the rest of its group too.")
    ] = 1,
    truncated: Annotated[
        bool, typer.Option("--truncated", help="The completion was cut off at its length limit.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    timeout_s: Annotated[float, typer.Option(min=0.001, help="Time for all of it, seconds.")] = 600.0,
) -> None:
    """Scores one sample and shows all that was asked and answered on the way.

    Every prompt as it was sent, the raw answers, how probable each label was, the verdict, time and tokens. Exit status 1
    if the verdict failed.

    Example: `reward-server judge try --reward quality --prompt "Name a colour." --completion "Blue."`

    Example: `reward-server judge try --judge strict --data samples.jsonl --line 3`
    """
    from reward_server.cli import trying  # noqa: PLC0415  # see the module's docstring

    given = trying.Given(prompt, tuple(completion or ()), tuple(column or ()), data, line, truncated)
    raise typer.Exit(trying.Trial(config, reward, judge, given, timeout_s).run(as_json=as_json))


@judge_app.command()
def audit(
    *,
    config: Config = DEFAULT_CONFIG,
    reward: Annotated[str, typer.Option(metavar="NAME", help="The reward to measure: a judge's, or any other.")],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Your own preference pairs, JSON lines or a JSON array: prompt, chosen, rejected, or input, output_1, "
            "output_2, label. Default: the pairs that are shipped.",
        ),
    ] = None,
    first_label: Annotated[
        int | None, typer.Option(min=0, max=1, help="The label that means output_1, where the file leaves it open.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where report.json and report.html go.")] = Path("audit"),
    probes: Annotated[
        list[str] | None,
        typer.Option(metavar="SET", help="pairs, keys, injections or groups; may be given again. Default: all."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many probes of each set: for slow judges.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PROBE'S", help="Which of the probes' columns one of the reward's is: solution=reference."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Completions a call; groups stay together.")] = 64,
    timeout_s: Annotated[float, typer.Option(min=0.001, help="Time for one call, seconds.")] = 600.0,
) -> None:
    """Measures a judge before anybody trains on it: does it tell good from bad, and what does it fall for?

    Accuracy on preference pairs in both orders, length bias, master keys, injections, spread within groups, missing
    verdicts and cost, each with its 95 % interval; a table here, report.json and report.html in a folder. Exit status 1
    for a judge that should not be trained on as it is.

    Example: `reward-server judge audit --config server.yaml --reward quality --out audits/quality`

    Example: `reward-server judge audit --reward quality --data pairs.jsonl --probes pairs --limit 100`
    """
    from reward_server.cli import auditing  # noqa: PLC0415  # see the module's docstring

    work = auditing.Audit(
        config=config,
        reward=reward,
        data=data,
        first_label=first_label,
        sets=auditing.known_sets(probes or ()),
        limit=limit,
        columns=auditing.named_columns(column or ()),
        out=out,
        batch_size=batch_size,
        timeout_s=timeout_s,
    )
    raise typer.Exit(work.run())


@app.command()
def example() -> None:
    """Prints a commented configuration to start from.

    Example: `reward-server example > server.yaml`
    """
    from importlib.resources import files  # noqa: PLC0415  # see the module's docstring

    typer.echo(files("reward_server.config").joinpath("example.yaml").read_text(encoding="utf-8"), nl=False)


def main() -> None:
    """Runs the command line and ends the process: 0 it went well, 1 it did not, 2 it was called wrongly, 130 Ctrl-C."""
    memory.keep_heap_padded()
    try:
        app()
    except Exception as error:
        from reward_server.errors import RewardServerError, without_library  # noqa: PLC0415  # see the module's docstring

        remedy = without_library(error, own="reward_server")
        if not isinstance(error, RewardServerError) and not remedy:
            raise
        for line in (remedy or str(error)).splitlines():
            typer.secho(line, fg="red", err=True)
        sys.exit(1)
