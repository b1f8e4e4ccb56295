"""The sections of a run's file, each checked by itself.

Knows nothing of files, nor of how sections depend on each other.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(gt=0, le=1)]


class Section(BaseModel):
    """A section: unknown names are refused, values are not changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSection(Section):
    """Where the weights come from: a model directory, or drawn anew from a configuration.

    Attributes:
        path: a Hugging Face model directory (or name), for continued training and finetuning.
        init: the values of a config.json, for training from scratch; `model_type` is required.
        store_dtype: element type of the written model.
        compile_layers: compile each layer with torch.compile; slower to start, faster to run.
    """

    path: str | None = None
    init: dict[str, Any] | None = None
    store_dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    compile_layers: bool = False

    @model_validator(mode="after")
    def _one_origin(self) -> "ModelSection":
        if (self.path is None) == (self.init is None):
            raise ValueError("give either path (a model to start from) or init (from scratch)")
        if self.init is not None and "model_type" not in self.init:
            raise ValueError("init needs model_type, such as llama")
        return self


class TokenizerSection(Section):
    """The tokenizer: taken from a directory, or trained on the texts when vocab_size is given."""

    path: str | None = None
    vocab_size: Annotated[int, Field(ge=257, le=65536)] | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> "TokenizerSection":
        if self.path is not None and self.vocab_size is not None:
            raise ValueError("give path or vocab_size, not both")
        return self


class Source(Section):
    """One kind of text.

    Attributes:
        share: part of the rows that come from it; the shares of all sources add up to 1.
        format: `text` (UTF-8, documents end with a line <|endoftext|>), `jsonl` (objects with
            `text`, or with `prompt` and `completion`, of which only the completion is learnt), or
            `python-library` (the standard library of the running Python, without its tests).
        train, valid: file patterns below the data directory; .xz is unpacked on the way.
        max_mb: at most this much text is read.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    share: Share
    format: Literal["text", "jsonl", "python-library"] = "text"
    train: list[str] = []
    valid: list[str] = []
    max_mb: Annotated[float, Field(gt=0)] = 100.0

    @model_validator(mode="after")
    def _has_files(self) -> "Source":
        if self.format != "python-library" and not (self.train and self.valid):
            raise ValueError(f"source {self.name} needs file patterns for both train and valid")
        return self


class DataSection(Section):
    """Texts and rows.

    Attributes:
        path: directory of the texts; may be left out here and given on the command line.
        row_len: tokens of a row.
        long_row_len: tokens of the rows of long steps, None for none.
        long_share: part of the steps whose rows are long; drawn per step, so that it falls on
            all exits of a rotation alike.
        valid_rows: rows of row_len per source that the exits are scored on.
    """

    path: str | None = None
    sources: Annotated[list[Source], Field(min_length=1)]
    row_len: Annotated[int, Field(ge=2)] = 256
    long_row_len: Annotated[int, Field(ge=2)] | None = None
    long_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    valid_rows: Annotated[int, Field(ge=1)] = 32

    @model_validator(mode="after")
    def _shares_add_up(self) -> "DataSection":
        total = sum(source.share for source in self.sources)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of the sources add up to {total:g}, not 1")
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"two sources have the same name: {', '.join(names)}")
        if (self.long_row_len is None) != (self.long_share == 0):
            raise ValueError("long_row_len and long_share go together")
        if self.long_row_len is not None and self.long_row_len <= self.row_len:
            raise ValueError("long_row_len must exceed row_len")
        return self


class RecipeSection(Section):
    """LayerSkip's knobs; see training/recipe.py for the formulas."""

    p_max: Annotated[float, Field(ge=0, le=1)] = 0.1
    e_scale: Annotated[float, Field(ge=0, le=1)] = 0.2
    curriculum: Literal["rotational", "gradual", "all", "last"] = "rotational"
    rotation: Annotated[int, Field(ge=1)] = 8
    dropout_scale: Literal["exp", "constant"] = "constant"
    exit_distillation: Annotated[float, Field(ge=0)] = 0.0
    base_distillation: Annotated[float, Field(ge=0)] = 0.0
    start_layers: Annotated[int, Field(ge=2)] | None = None
    grow_at: Annotated[float, Field(ge=0, lt=1)] = 0.0
    grow_scale: Annotated[float, Field(ge=0, le=1)] = 0.0


class LoraSection(Section):
    """Low-rank adapters instead of full finetuning (peft); merged into the written model."""

    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: list[str] | Literal["all-linear"] = "all-linear"


class ExitAdaptersSection(Section):
    """Low-rank maps that only drafts read exits through; every weight of the model is frozen.

    Attributes:
        rank: inner size of each map.
        exits: exit layers that get one, in [2, L-1]; None for all of these. Exit 1 has no weight in
            the recipe.
    """

    rank: Annotated[int, Field(ge=1)] = 64
    exits: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _each_exit_once(self) -> "ExitAdaptersSection":
        if self.exits is not None and len(set(self.exits)) < len(self.exits):
            raise ValueError("exits names an exit twice")
        return self


class DraftAdaptersSection(Section):
    """Kangaroo's adapters: an attention behind an exit; every weight of the model is frozen.

    Attributes:
        exits: exit layers that get one, in [1, L-1]. All are trained in one run, which shares the
            frozen model's work; serving one is enough.
        start: `fresh` (projections at random, norms of 1: as published) or `raw_exit` (the
            attention adds nothing and the norm is the model's own, so that training begins at what
            the raw exit says).
    """

    exits: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    start: Literal["fresh", "raw_exit"] = "fresh"

    @model_validator(mode="after")
    def _each_exit_once(self) -> "DraftAdaptersSection":
        if len(set(self.exits)) < len(self.exits):
            raise ValueError("exits names an exit twice")
        return self


class AcceptanceSection(Section):
    """Acceptance heads: how likely the model agrees with an exit; all its weights are frozen.

    Attributes:
        exits: exit layers that get one, in [1, L-1]; None for all of these.
        width: inner size of each head.
        dropout: of the heads' inputs and inner values, while they are trained.
        greedy_share: part of the positions where exit and model choose greedily; at the others
            both sample under one noise, at a temperature drawn from [min, max]_temperature.
        epoch_steps: after so many steps the same rows come again. What exits said of them is kept
            in memory (2 bytes for each row, token, exit and hidden value), so that later epochs
            need no forward of the model. None: rows never come again.
        own_share: part of the rows in which the model itself goes on from a prompt, as it will
            when it is served.
        own_rows: so many of these rows are written before the run begins.
        prompt_len: tokens of running text that such a row begins with.
        exit_adapters: what exits are read through, as the setting of this name has it.
        store_dtype: element type of the written heads; they run in float32.
    """

    exits: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] | None = None
    width: Annotated[int, Field(ge=1)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    greedy_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    min_temperature: Annotated[float, Field(gt=0)] = 0.5
    max_temperature: Annotated[float, Field(gt=0)] = 1.0
    epoch_steps: Annotated[int, Field(ge=1)] | None = None
    own_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    own_rows: Annotated[int, Field(ge=1)] = 1024
    prompt_len: Annotated[int, Field(ge=1)] = 64
    exit_adapters: Annotated[str, Field(min_length=1)] = "auto"
    store_dtype: Literal["float32", "bfloat16", "float16"] = "float16"

    @model_validator(mode="after")
    def _values_agree(self) -> "AcceptanceSection":
        if self.exits is not None and len(set(self.exits)) < len(self.exits):
            raise ValueError("exits names an exit twice")
        if self.min_temperature > self.max_temperature:
            raise ValueError("min_temperature exceeds max_temperature")
        return self


class GuardSection(Section):
    """How much the last layer may lose against the model the run began with.

    Attributes:
        max_loss_increase: relative, of the cross-entropy of any source.
        max_accuracy_drop: absolute, of the task accuracy of any source.
    """

    max_loss_increase: Annotated[float, Field(gt=0)] = 0.03
    max_accuracy_drop: Annotated[float, Field(gt=0)] = 0.02


class CardSection(Section):
    """What the model card says that a run cannot know: title, licence, sources, limits."""

    title: str = ""
    licence: str = ""
    notes: str = ""
