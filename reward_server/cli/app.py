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
judge_app = typer.Typer(help="What concerns the judges' models.", no_args_is_help=True)
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
    bool, typer.Option("--deep", help="Start the judges' engines too, and ask their hosts whether they can serve.")
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

    Rules and Python functions are loaded; judges' hosts are only asked with `--deep`, which takes as long as loading
    their models does. Exit status 1 if a reward could not be served.

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

    Prompts and completions are texts or lists of messages; every other key is a column. Each line comes back with
    `verdicts` by reward. Exit status 1 if a verdict failed.

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
        from reward_server.errors import RewardServerError  # noqa: PLC0415  # see the module's docstring

        if not isinstance(error, RewardServerError):
            raise
        for line in str(error).splitlines():
            typer.secho(line, fg="red", err=True)
        sys.exit(1)
