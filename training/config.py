"""The file that describes a run, checked before anything is loaded.

Knows nothing of tensors. A run is a YAML file of the sections in `sections`; every value can be
overridden as `section.name=value`. The section `trainer` is handed to transformers'
TrainingArguments as it is, so one process, DDP and FSDP, precision, schedules and logging are set
as everywhere else.
"""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from training.errors import TrainingError
from training.sections import (
    AcceptanceSection,
    CardSection,
    DataSection,
    DraftAdaptersSection,
    ExitAdaptersSection,
    GuardSection,
    LoraSection,
    ModelSection,
    RecipeSection,
    Section,
    Source,
    TokenizerSection,
)

KEYS_OURS = (
    "output_dir",
    "seed",
    "data_seed",
    "remove_unused_columns",
    "label_names",
    "label_smoothing_factor",
    "train_sampling_strategy",
)
"""Arguments of the trainer that the sections, the recipe's loss or the order of rows decide."""


class TextRun(Section):
    """What every run has: a model, texts, and the arguments of the trainer.

    Attributes:
        seed: of the weights, the rows and whatever is drawn.
    """

    name: str
    seed: int = 1
    model: ModelSection
    tokenizer: TokenizerSection = TokenizerSection()
    data: DataSection
    card: CardSection = CardSection()
    trainer: dict[str, Any]

    @model_validator(mode="after")
    def _trainer_is_ours_to_share(self) -> "TextRun":
        ours = sorted(set(self.trainer) & set(KEYS_OURS))
        if ours:
            raise ValueError(f"trainer.{ours[0]} is decided by this configuration; leave it out")
        num_steps = self.trainer.get("max_steps", 0)
        if type(num_steps) is not int or num_steps < 1:
            raise ValueError("trainer.max_steps must be a whole number, at least 1")
        return self


class RunConfig(TextRun):
    """A whole run of LayerSkip.

    Attributes:
        freeze: names of parameter groups that keep their values: `embedding` (and a tied head),
            `norm`, `head`, `last_layer`. With `last_layer`, `norm` and `head` frozen, the end of
            the last layer's path stays as it was.
        exit_adapters: train only these, beside the model. The recipe then has no layer dropout,
            and an `exit_distillation` of 1 where it names none: agreeing with the last layer is
            all that is left to learn.
    """

    recipe: RecipeSection = RecipeSection()
    lora: LoraSection | None = None
    exit_adapters: ExitAdaptersSection | None = None
    freeze: list[Literal["embedding", "norm", "head", "last_layer"]] = Field(default_factory=list)
    guard: GuardSection = GuardSection()

    @model_validator(mode="before")
    @classmethod
    def _recipe_of_adapters(cls, values: Any) -> Any:
        """Defaults of the recipe that differ where all weights are frozen."""
        if not isinstance(values, dict) or values.get("exit_adapters") is None:
            return values
        recipe = values.get("recipe") or {}
        if not isinstance(recipe, dict):
            return values
        return values | {"recipe": {"p_max": 0.0, "exit_distillation": 1.0} | recipe}

    @model_validator(mode="after")
    def _sections_agree(self) -> "RunConfig":
        scratch = self.model.init is not None
        if self.recipe.start_layers is not None and not scratch:
            raise ValueError("recipe.start_layers is for training from scratch (model.init)")
        if scratch and (self.lora or self.recipe.base_distillation or self.freeze):
            raise ValueError("lora, freeze and recipe.base_distillation need model.path")
        if scratch and not (self.tokenizer.path or self.tokenizer.vocab_size):
            raise ValueError("from scratch, tokenizer needs a path or a vocab_size")
        return self

    @model_validator(mode="after")
    def _adapters_leave_the_model_alone(self) -> "RunConfig":
        if self.exit_adapters is None:
            return self
        recipe = self.recipe
        faults = {
            "need model.path, a model to stay as it is": self.model.init is not None,
            "freeze every weight: leave lora out": self.lora is not None,
            "freeze every weight: leave freeze out": bool(self.freeze),
            "copy the weights as they are: leave model.store_dtype out": (
                "store_dtype" in self.model.model_fields_set
            ),
            "keep the model's tokenizer: leave tokenizer.vocab_size out": (
                self.tokenizer.vocab_size is not None
            ),
            "leave nothing to grow: leave recipe.start_layers out": (
                recipe.start_layers is not None
            ),
            "go without layer dropout: recipe.p_max must be 0": recipe.p_max > 0,
            "leave the last layer as it is: recipe.base_distillation must be 0": (
                recipe.base_distillation > 0
            ),
            "need exits in the loss: recipe.curriculum must not be last, nor e_scale 0": (
                recipe.curriculum == "last" or recipe.e_scale == 0
            ),
        }
        found = [text for text, is_fault in faults.items() if is_fault]
        if found:
            raise ValueError("exit_adapters " + "; ".join(found))
        return self


RunT = TypeVar("RunT", bound=TextRun)


class FrozenRun(TextRun):
    """A run beside a model that stays as it is."""

    @model_validator(mode="after")
    def _model_stays(self) -> "FrozenRun":
        faults = {
            "needs model.path, a model to stay as it is": self.model.path is None,
            "leaves the weights as they are: leave model.store_dtype out": (
                "store_dtype" in self.model.model_fields_set
            ),
            "keeps the model's tokenizer: leave tokenizer.vocab_size out": (
                self.tokenizer.vocab_size is not None
            ),
        }
        found = [text for text, is_fault in faults.items() if is_fault]
        if found:
            raise ValueError("training beside a frozen model " + "; ".join(found))
        return self


class KangarooRun(FrozenRun):
    """A run that trains draft adapters."""

    draft_adapters: DraftAdaptersSection


class AcceptanceRun(FrozenRun):
    """A run that trains acceptance heads."""

    acceptance: AcceptanceSection = AcceptanceSection()

    @model_validator(mode="after")
    def _prompts_fit(self) -> "AcceptanceRun":
        prompt_len, row_len = self.acceptance.prompt_len, self.data.row_len
        if self.acceptance.own_share and prompt_len >= row_len:
            raise ValueError(
                f"acceptance.prompt_len of {prompt_len} leaves nothing to go on with in rows of"
                f" {row_len} tokens (data.row_len)"
            )
        return self


def read_config(path: Path, overrides: Sequence[str] = (), kind: type[RunT] = RunConfig) -> RunT:  # type: ignore[assignment]
    """Read a run's YAML file and apply `section.name=value` overrides.

    Args:
        path: the file.
        overrides: values over what it says.
        kind: the class of the run.

    Raises:
        TrainingError: no such file, no YAML, an unknown name or a value out of range.
    """
    try:
        values = _yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"cannot read the configuration {path}: {error}") from error
    except yaml.YAMLError as error:
        raise TrainingError(f"{path} is no YAML: {_one_line(str(error))}") from error
    if not isinstance(values, dict):
        raise TrainingError(f"{path} must hold sections such as model, data, recipe and trainer")
    for override in overrides:
        _override(values, override)
    return checked(values, str(path), kind)


def checked(values: dict[str, Any], origin: str, kind: type[RunT] = RunConfig) -> RunT:  # type: ignore[assignment]
    """Check the values of a configuration.

    Raises:
        TrainingError: all faults, each with its place.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(_fault(detail) for detail in error.errors())
        raise TrainingError(f"configuration {origin}: {faults}") from error


def _fault(detail: Any) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(detail["loc"][-1]), _all_names(), n=1)
        return f"{place} is not known" + (f", did you mean {close[0]}?" if close else "")
    message = detail["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _all_names() -> list[str]:
    sections = (
        RunConfig, ModelSection, TokenizerSection, DataSection, Source, RecipeSection,
        LoraSection, ExitAdaptersSection, DraftAdaptersSection, AcceptanceSection, GuardSection,
        CardSection,
    )  # fmt: skip
    return [name for section in sections for name in section.model_fields]


def _override(values: dict[str, Any], text: str) -> None:
    """Set one value; lists are addressed by index."""
    place, equals, raw = text.partition("=")
    if not equals or not place:
        raise TrainingError(f"override {text!r} is not of the form section.name=value")
    *parents, last = place.split(".")
    target: Any = values
    try:
        for part in parents:
            is_list = isinstance(target, list)
            target = target[int(part)] if is_list else target.setdefault(part, {})
        target[int(last) if isinstance(target, list) else last] = _yaml(raw)
    except (ValueError, IndexError, TypeError, AttributeError, yaml.YAMLError) as error:
        reason = _one_line(str(error))
        raise TrainingError(
            f"override {text!r} does not fit the configuration: {reason}"
        ) from error


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, as in YAML 1.2; by YAML 1.1 it would be text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # a subclass of the safe loader


def _one_line(text: str) -> str:
    return " ".join(text.split())
