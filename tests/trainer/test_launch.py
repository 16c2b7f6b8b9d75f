"""How a run is launched on several processes: the configurations in examples/, and what a process knows of the others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import accelerate
import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from server_process import REPOSITORY

from trainer import launch
from trainer.config import ConfigError

LAUNCH = REPOSITORY / "examples" / "launch"
RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@pytest.fixture
def rank(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what a launcher sets."""
    for name in RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def is_rank(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return is_rank


def understood(file: Path, *options: str) -> argparse.Namespace:
    """Returns what `accelerate launch` makes of a configuration and options."""
    command = ["--config_file", str(file), *options, "-m", "trainer", "train", "--config", "run.yaml"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    assert arguments.training_script == "trainer"
    assert arguments.training_script_args == ["train", "--config", "run.yaml"]
    return arguments


@pytest.mark.parametrize(("name", "kind"), [("ddp", "multi_gpu"), ("fsdp", "use_fsdp"), ("deepspeed", "use_deepspeed")])
def test_accelerate_understands_the_configurations(name: str, kind: str):
    file = LAUNCH / f"{name}.yaml"
    assert load_config_from_file(str(file)).num_machines == 1
    arguments = understood(file, "--num_processes", "2")
    assert [each for each in ("multi_gpu", "use_fsdp", "use_deepspeed") if getattr(arguments, each)] == [kind]
    assert arguments.num_processes == 2
    assert arguments.mixed_precision == "no"


def test_two_hosts_are_a_matter_of_the_command_line():
    two = "--num_machines 2 --num_processes 16 --machine_rank 1 --main_process_ip 10.0.0.1 --main_process_port 29500"
    arguments = understood(LAUNCH / "ddp.yaml", *two.split())
    prepare_multi_gpu_env(arguments)
    assert (arguments.nnodes, arguments.nproc_per_node, arguments.node_rank) == ("2", "8", 1)
    assert (arguments.rdzv_backend, arguments.rdzv_endpoint) == ("static", "10.0.0.1:29500")


def test_the_fsdp_settings_are_those_of_its_second_version(monkeypatch: pytest.MonkeyPatch):
    from accelerate import FullyShardedDataParallelPlugin

    for name, value in prepare_multi_gpu_env(understood(LAUNCH / "fsdp.yaml")).items():
        if name.startswith("FSDP"):
            monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"


def test_zero_3_is_a_matter_of_the_command_line():
    options = ["--zero_stage", "3", "--zero3_init_flag", "true", "--zero3_save_16bit_model", "true"]
    assert understood(LAUNCH / "deepspeed.yaml").zero_stage == 2
    assert understood(LAUNCH / "deepspeed.yaml", *options).zero_stage == 3


def test_a_process_by_itself_decides_and_speaks(rank: Any):
    rank()
    assert (launch.process_count(), launch.is_main_process(), launch.spans_hosts()) == (1, True, False)
    assert launch.who() == ""
    assert launch.made_by_first(lambda: "this") == "this"


def test_a_later_process_names_itself(rank: Any):
    rank(RANK="3", WORLD_SIZE="4", LOCAL_WORLD_SIZE="4")
    assert not launch.is_main_process()
    assert launch.who() == "rank 3: "
    assert not launch.spans_hosts()


def test_processes_that_are_not_connected_are_refused(rank: Any, monkeypatch: pytest.MonkeyPatch):
    """As where torch sees no GPU: each would go on by itself."""

    class Alone:
        num_processes = 1

    monkeypatch.setattr(accelerate, "PartialState", lambda **_: Alone())
    rank(RANK="1", WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    with pytest.raises(ConfigError, match=r"2 processes were launched.*grpo\.use_cpu: true"):
        launch.connect({})


def test_processes_of_two_hosts_are_known(rank: Any):
    rank(RANK="3", WORLD_SIZE="4", LOCAL_WORLD_SIZE="2")
    assert launch.spans_hosts()
