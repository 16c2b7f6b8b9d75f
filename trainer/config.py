"""The configuration of one training run: one YAML file, checked as a whole before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from protos import configfile
from protos.configfile import ConfigFileError
from trainer.client.options import OnOutage
from trainer.missing import MissingPolicy

RESERVED_GRPO_FIELDS: Mapping[str, str] = {
    "reward_weights": (
        "weights stand in rewards.use and rewards.local, beside the names they belong to; they end in "
        "GRPOConfig.reward_weights (GRPOTrainer itself has no such argument)"
    ),
    "reward_funcs": "rewards stand in rewards.use (on the server) and rewards.local (functions of your own)",
    "output_dir": "the folder of the run is run.folder",
    "seed": "the seed is run.seed",
    "bf16": "the number format is model.precision: bf16",
    "fp16": "the number format is model.precision: fp16",
    "peft_config": "LoRA is configured under model.lora",
}
"""Fields of `GRPOConfig`, or what people take for one, that this configuration says elsewhere, and where."""


class RunError(Exception):
    """A run cannot be done as it is. `problems` holds one line per mistake, each with the remedy."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ConfigError(RunError):
    """The configuration is wrong, or names what is not there."""


class DataError(RunError):
    """The data set is wrong, or lacks what is asked of it."""


class _Settings(BaseModel):
    """Base of all sections: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LoraSettings(_Settings):
    """Low-rank adapters, trained in place of the whole model."""

    r: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: str | tuple[str, ...] = "all-linear"


class ModelSettings(_Settings):
    """The model that is trained."""

    name: str  # a folder (relative to the configuration's) or the id of a model on the Hugging Face hub
    loader: Literal["auto", "transformers", "unsloth"] = "auto"  # auto: unsloth where it is installed and has a GPU
    load_in_4bit: bool = False  # frozen weights in 4 bits (NF4); needs an adapter, and bitsandbytes
    load_in_8bit: bool = False
    max_seq_length: int | None = Field(default=None, ge=8)  # tokens of prompt and completion; None: the model's own
    fast_inference: bool = False  # unsloth generates by vLLM, where that is installed
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    adapter: Path | None = None  # a LoRA adapter, for example from SFT, that training continues
    lora: LoraSettings | None = LoraSettings()  # null: all weights are trained
    chat_template: Path | None = None  # a Jinja file that replaces the tokenizer's template

    @model_validator(mode="after")
    def _adapter_has_its_own_shape(self) -> Self:
        if self.adapter is not None and "lora" in self.model_fields_set:
            raise ValueError(
                "adapter and lora exclude each other: training goes on with the adapter as it is, rank and all. "
                "Drop lora; or merge the adapter into the model first and name the merged model"
            )
        return self

    @model_validator(mode="after")
    def _quantised_weights_are_frozen(self) -> Self:
        if self.load_in_4bit and self.load_in_8bit:
            raise ValueError("load_in_4bit and load_in_8bit exclude each other: keep one")
        if (self.load_in_4bit or self.load_in_8bit) and self.lora is None and self.adapter is None:
            bits = "4bit" if self.load_in_4bit else "8bit"
            raise ValueError(
                f"load_in_{bits} and lora: null exclude each other: quantised weights cannot be trained themselves. "
                "Drop lora: null, and an adapter is trained on them"
            )
        return self


class DataSettings(_Settings):
    """The prompts. Exactly one of `path`, `hub_id`, `prompts` says where they are."""

    path: Path | None = None  # a .jsonl or .parquet file
    hub_id: str | None = None  # a data set on the Hugging Face hub
    config: str | None = None  # the hub data set's configuration
    split: str = "train"
    prompts: tuple[str, ...] | None = None
    prompt_column: str = "prompt"
    prompt_template: str | None = None  # `{prompt}` and `{column}` are filled in
    system_prompt: str | None = None
    conversational: bool | Literal["auto"] = "auto"  # auto: a text becomes a conversation if the model has a template
    limit: int | None = Field(default=None, ge=1)
    columns: Mapping[str, str] = {}  # the name a reward asks for -> the data set's column
    eval_path: Path | None = None  # a file of prompts that are only evaluated
    eval_split: str | None = None  # the hub data set's split that is only evaluated
    eval_share: float | None = Field(default=None, gt=0, lt=1)  # of the prompts, held out by the run's seed
    eval_limit: int | None = Field(default=64, ge=1)  # prompts at most in an evaluation; null: all of them

    @property
    def is_evaluated(self) -> bool:
        """Returns whether there is an evaluation split."""
        return any(each is not None for each in (self.eval_path, self.eval_split, self.eval_share))

    @model_validator(mode="after")
    def _at_most_one_evaluation(self) -> Self:
        given = [name for name in ("eval_path", "eval_split", "eval_share") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"takes at most one of eval_path, eval_split, eval_share; has {' and '.join(given)}")
        if self.eval_split is not None and self.hub_id is None:
            raise ValueError("eval_split names a split of hub_id, which is missing: name a file with eval_path")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("path", "hub_id", "prompts") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of path, hub_id, prompts; has {' and '.join(given) or 'none'}")
        if self.hub_id is None and (unused := sorted({"config", "split"} & self.model_fields_set)):
            raise ValueError(f"{' and '.join(unused)} belong to a hub_id, and there is none: drop them")
        return self

    @field_validator("prompts")
    @classmethod
    def _some_prompts(cls, prompts: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if prompts is not None and not prompts:
            raise ValueError("has no prompt in it")
        return prompts

    @field_validator("path", "eval_path")
    @classmethod
    def _known_format(cls, path: Path | None) -> Path | None:
        if path is not None and path.suffix not in {".jsonl", ".json", ".parquet"}:
            raise ValueError(f"{path} should be a .jsonl or .parquet file")
        return path

    @field_validator("prompt_template")
    @classmethod
    def _template_has_a_place(cls, template: str | None) -> str | None:
        if template is not None and "{" not in template:
            raise ValueError("has no place for the prompt: write {prompt} where it belongs")
        return template


class LocalReward(_Settings):
    """A reward function of one's own, run inside the trainer."""

    python: str  # path/to/file.py:function or package.module:function
    weight: FiniteFloat = 1.0

    @field_validator("python")
    @classmethod
    def _names_a_function(cls, value: str) -> str:
        place, _, function = value.rpartition(":")
        if not place or not function.isidentifier():
            raise ValueError(f"{value!r} should name a function: path/to/file.py:function or package.module:function")
        return value


class StopWhenMissing(_Settings):
    """When a run ends itself because it hardly learns from what was scored."""

    share: float = Field(gt=0, lt=1)  # of the scores of a step, over all rewards: more than that is missing
    steps: int = Field(default=5, ge=1)  # so many steps in a row


class RewardSettings(_Settings):
    """Where rewards come from and what they weigh."""

    server: str | None = None  # host:port, unix:/path, or local:server.yaml (starts a server for this run)
    token_file: Path | None = None
    token_env: str | None = None  # the environment variable that holds the token
    tls: bool = False
    ca_file: Path | None = None  # who signed the server's certificate
    certificate_file: Path | None = None  # the client's own, where the server asks for one
    key_file: Path | None = None
    server_name: str | None = None  # the name in the server's certificate, where it is not the address
    insecure: bool = False  # send the token over an unencrypted connection
    use: Mapping[str, FiniteFloat] = {}  # names on the server -> weights
    local: Mapping[str, LocalReward] = {}
    experiment: str = ""
    deadline_s: float = Field(default=120.0, gt=0)  # for one call, on each try
    on_outage: OnOutage = "wait"
    outage_limit_s: float = Field(default=600.0, ge=0)
    missing: MissingPolicy = "group_mean"
    stop_when_missing: StopWhenMissing | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.use and not self.local:
            raise ValueError("has no reward: name some of the server's under use, or functions of your own under local")
        if self.use and self.server is None:
            raise ValueError("use names rewards of a server, but server is missing: host:port, or local:server.yaml")
        if both := sorted(self.use.keys() & self.local.keys()):
            raise ValueError(f"use and local both have a reward {both[0]!r}: give one of them another name")
        if self.token_file is not None and self.token_env is not None:
            raise ValueError("token_file and token_env exclude each other: keep one")
        return self

    @property
    def names(self) -> list[str]:
        """Returns the names of all rewards: the server's, then the local ones."""
        return [*self.use, *self.local]

    @property
    def weights(self) -> list[float]:
        """Returns their weights, in the order of `names`."""
        return [*self.use.values(), *(each.weight for each in self.local.values())]


class RunSettings(_Settings):
    """Where the run is kept."""

    folder: Path = Path("runs/run")
    save: Literal["adapter", "merged"] = "adapter"  # merged: the adapter is added to the weights, which are saved whole
    seed: int = Field(default=7, ge=0, lt=2**31)  # NumPy takes 32 bits, and each rank adds its number
    samples_before_after: int = Field(
        default=4, ge=0
    )  # prompts that are answered before and after, for a person to compare


class _TrainFile(_Settings):
    """The file as it is written."""

    model: ModelSettings
    data: DataSettings
    rewards: RewardSettings
    grpo: Mapping[str, Any] = {}  # fields of trl.GRPOConfig by their own names
    run: RunSettings = RunSettings()

    @field_validator("grpo", mode="before")
    @classmethod
    def _empty_section(cls, grpo: Any) -> Any:
        return {} if grpo is None else grpo


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One training run."""

    path: Path  # of the configuration file, absolute
    model: ModelSettings
    data: DataSettings
    rewards: RewardSettings
    grpo: Mapping[str, Any]  # fields of trl.GRPOConfig by their own names
    run: RunSettings

    @property
    def trains_all_weights(self) -> bool:
        """Returns whether the model itself is trained, not an adapter."""
        return self.model.lora is None and self.model.adapter is None

    def at(self, path: str | Path) -> Path:
        """Returns a path of the configuration, which starts at the configuration's folder, as an absolute one."""
        return (self.path.parent / Path(path).expanduser()).resolve()

    def but(self, *, server: str | None = None, run_folder: Path | None = None) -> TrainConfig:
        """Returns this configuration with what a command line said instead."""
        rewards = self.rewards if server is None else self.rewards.model_copy(update={"server": server})
        run = self.run if run_folder is None else self.run.model_copy(update={"folder": run_folder.resolve()})
        return replace(self, rewards=rewards, run=run)


def load(path: Path) -> TrainConfig:
    """Reads the configuration of a run. Raises `ConfigError` with all problems, each with file, line and key."""
    try:
        document = configfile.read(path)
    except ConfigFileError as error:
        raise ConfigError(*error.problems) from None
    _refuse_misplaced(document)
    file = configfile.validated(_TrainFile, document.value, (), document)
    if file is None or document.problems:
        raise ConfigError(*document.problem_lines())
    return TrainConfig(path.resolve(), file.model, file.data, file.rewards, file.grpo, file.run)


def _refuse_misplaced(document: configfile.Document) -> None:
    """Complains of each key under `grpo` that this configuration says elsewhere."""
    for name, remedy in RESERVED_GRPO_FIELDS.items():
        if ("grpo", name) in document.marks:
            document.complain(("grpo", name), f"does not stand here: {remedy}")
