"""The command `grpo-train`: train, preflight, score, report, import-gguf."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from rich.console import Console

from trainer import __version__, launch, preflight, scoring
from trainer.client import RewardClient
from trainer.client.options import DEFAULT_PORT
from trainer.config import RunError, TrainConfig, load
from trainer.errors import RewardError
from trainer.progress import reward_table
from trainer.resuming import NEWEST
from trainer.reward_set import client_options, target

app = typer.Typer(
    help="GRPO training whose rewards come from a reward server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

FAILED, MISCONFIGURED = 1, 2
"""Exit codes, beside 130 (Ctrl-C) and 143 (SIGTERM)."""

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The run's configuration, a YAML file.")]
ServerOption = Annotated[
    str | None, typer.Option(help="The reward server, in place of the configuration's: host:port, or local:FILE.")
]


def main() -> None:
    """Runs the command line."""
    app()


@app.callback()
def _options(
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the release and exit.", is_eager=True)] = False,
) -> None:
    if version:
        Console().print(__version__, highlight=False)
        raise typer.Exit


class _TrainCommand(typer.core.TyperCommand):
    """`train`, whose `--resume` may stand without a folder."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Gives a bare `--resume` the empty text as its value, which stands for the newest run."""
        for place, argument in reversed(list(enumerate(args))):
            if argument == "--resume" and (place + 1 == len(args) or args[place + 1].startswith("-")):
                args[place : place + 1] = ["--resume", NEWEST]
        return super().parse_args(ctx, args)


@app.command("train", cls=_TrainCommand)
def train_command(
    config: ConfigOption,
    server: ServerOption = None,
    run_folder: Annotated[Path | None, typer.Option(help="Where the run is kept, in place of run.folder.")] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="[FOLDER]",
            help="Go on with a run: its folder, or a checkpoint in it. Without one the newest run of run.folder.",
        ),
    ] = None,
) -> None:
    """Train, after a preflight. Ctrl-C and SIGTERM end the run early and save what it has learned."""
    console = Console()
    with _errors_in_words():
        settings = load(config).but(server=server, run_folder=run_folder)
        _prepare_environment()
        _prepare_libraries(settings)
        launch.connect(settings.grpo)
        if not launch.made_by_first(lambda: preflight.show(preflight.checks(settings), console)):
            raise typer.Exit(FAILED)
        _train(settings, console, resume)
        launch.part()


@app.command("preflight")
def preflight_command(config: ConfigOption, server: ServerOption = None) -> None:
    """Check server, token, rewards, data, model and settings before a GPU is taken. Exit code 1 if anything is wrong."""
    with _errors_in_words():
        _preflight(load(config).but(server=server), Console())


@app.command("score")
def score_command(
    *,
    reward: Annotated[list[str], typer.Option(help="A reward's name on the server; may be given several times.")],
    data: Annotated[Path, typer.Option(help="JSON lines with completion, and prompt and columns where needed.")],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Take server and token from a run's file.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(help=f"host:port, or local:FILE. Default 127.0.0.1:{DEFAULT_PORT}.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="A file with the server's token.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="Speak TLS; who signed the server's certificate.")] = None,
    out: Annotated[Path | None, typer.Option(help="Default: the data's name with .scored.jsonl.")] = None,
) -> None:
    """Score a file of prompts and completions without training."""
    console = Console()
    with _errors_in_words():
        settings = None if config is None else load(config)
        options: dict[str, Any] = {"on_outage": "stop"} if settings is None else client_options(settings)
        if token_file is not None:
            options |= {"token": None, "token_file": str(token_file)}
        if ca_file is not None:
            options |= {"tls": True, "ca_file": str(ca_file)}
        address = server or (target(settings) if settings is not None else "") or f"127.0.0.1:{DEFAULT_PORT}"
        scored = out or data.with_suffix(".scored.jsonl")
        with RewardClient(address, **options) as client:
            summaries = scoring.score_file(client, reward, data, scored, console)
        scoring.show(summaries, console)
        console.print(f"verdicts: {scored}", highlight=False, soft_wrap=True)


@app.command("report")
def report_command(
    runs: Annotated[list[Path], typer.Argument(help="The folder of a run; several are compared.")],
    out: Annotated[Path, typer.Option(help="Where the page that compares several runs is written.")] = Path(
        "comparison.html"
    ),
) -> None:
    """Write a run's report anew, or compare several runs."""
    with _errors_in_words():
        from trainer import comparison  # noqa: PLC0415  # only here

        comparison.tell(runs, out, Console())


@app.command("import-gguf")
def import_gguf_command(
    file: Annotated[Path, typer.Argument(help="A model as a GGUF file.")],
    folder: Annotated[Path, typer.Argument(help="The folder to write, for model.name.")],
) -> None:
    """Turn a GGUF file into a model folder that can be trained."""
    with _errors_in_words():
        from trainer.models import import_gguf  # noqa: PLC0415  # seconds, and torch

        import_gguf(file, folder)
        Console().print(f"model: {folder}", highlight=False, soft_wrap=True)


def _preflight(settings: TrainConfig, console: Console) -> None:
    if not preflight.show(preflight.checks(settings), console):
        raise typer.Exit(FAILED)


def _train(settings: TrainConfig, console: Console, resume: str | None) -> None:
    from trainer.train import Interrupted, OutOfMemory, train  # noqa: PLC0415  # seconds

    try:
        result = train(settings, console, resume=resume)
    except Interrupted as error:
        raise typer.Exit(error.exit_code) from None
    except OutOfMemory as error:
        Console(stderr=True).print(f"{launch.who()}{error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(FAILED) from None
    if launch.is_main_process():
        if not console.is_terminal:  # there the live view has stayed
            console.print(reward_table(result.history, settings.rewards.names))
        for what, path in (("run", result.folder.path), ("report", result.folder.report), ("weights", result.weights)):
            console.print(f"{what + ':':8} {path}", highlight=False, soft_wrap=True)


@contextmanager
def _errors_in_words() -> Iterator[None]:
    """Turns what a person can mend into words and an exit code."""
    console = Console(stderr=True)
    try:
        yield
    except RunError as error:
        for problem in error.problems:
            console.print(launch.who() + problem, style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(MISCONFIGURED) from None
    except RewardError as error:
        console.print(f"{launch.who()}{error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(FAILED) from None


def _prepare_libraries(settings: TrainConfig) -> None:
    """Imports what must come before the preflight imports trl."""
    from trainer import models  # noqa: PLC0415  # as light as the rest, unless Unsloth is taken

    models.prepare(settings)


def _prepare_environment() -> None:
    """Sets what libraries read when they are imported, unless it is set already."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # A reward server may share these cores: threads that wait must not spin.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
