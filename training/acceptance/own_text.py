"""Rows in which the model itself goes on from a prompt, as it will when it is served.

On given text a head meets other states than the model's own text brings it to, and tells
acceptance on the latter less well. So a part of the rows begins as a row of the sources and is
written on by the model: a share of them greedily, the others at drawn temperatures. All are written
before the run begins, and kept for a run that is resumed.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor

from training.config import AcceptanceRun
from training.rows import IGNORED, Example, Row, Rows, TaskRows
from training.texts import Texts

ROWS_AT_ONCE = 128
SUFFIX = "-own"
"""What the name of a source gets where the model has written on."""

Prompts = Sequence[Sequence[int]]
BatchT = TypeVar("BatchT")


def own_texts(
    config: AcceptanceRun, texts: Texts, model: Any, weights: str, folder: Path, console: Console
) -> Texts:
    """Rows of the model's own for every source, by the source's name and SUFFIX.

    Args:
        config: of the run.
        texts: what the prompts are taken from.
        model: goes on from them.
        weights: fingerprint of the model's weights.
        folder: keeps what was written; other prompts or weights are not served from it.
        console: shows how far it is.
    """
    found: dict[str, dict[str, Rows]] = {"train": {}, "valid": {}}
    pad_id = (*end_ids_of(model), 0)[0]
    for name, split, prompts in _prompts(config, texts):
        key = _key(config, weights, prompts)
        path = folder / f"{name}.{split}.{key}.json"
        if not path.exists():
            shown = f"{name} ({split}): the model writes on, {len(prompts):,} rows"
            _keep(path, write_on(config, model, prompts, shown, console))
        found[split][name] = TaskRows(name, _kept(path), pad_id, is_task=False)
    return Texts(found["train"], found["valid"])


def _prompts(config: AcceptanceRun, texts: Texts) -> Iterator[tuple[str, str, Prompts]]:
    """Name, split and prompts of every set of rows."""
    row_len, section = config.data.row_len, config.acceptance
    for source in config.data.sources:
        train, valid = texts.train[source.name], texts.valid[source.name]
        num_rows = max(1, round(section.own_rows * source.share))
        drawn = [train.draw(row_len, (config.seed, index)) for index in range(num_rows)]
        spread = valid.spread(config.data.valid_rows, row_len)
        for split, rows, is_task in (
            ("train", drawn, train.is_task),
            ("valid", spread, valid.is_task),
        ):
            prompts = [prompt_of(row, is_task, section.prompt_len) for row in rows]
            yield source.name + SUFFIX, split, prompts


def prompt_of(row: Row, is_task: bool, prompt_len: int) -> list[int]:
    """What a row begins with: the prompt of an example, prompt_len tokens of running text."""
    if is_task:
        prompt_len = int((row["labels"] != IGNORED).int().argmax()) + 1
    prompt: list[int] = row["input_ids"][:prompt_len].tolist()
    return prompt


def end_ids_of(model: Any) -> list[int]:
    """Tokens that end the model's text."""
    ids = model.generation_config.eos_token_id
    if ids is None:
        ids = model.config.eos_token_id
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)


# --- files ----------------------------------------------------------------------------------------


def _key(config: AcceptanceRun, weights: str, prompts: Prompts) -> str:
    """What the rows depend on, hashed."""
    section = config.acceptance
    moods = [section.greedy_share, section.min_temperature, section.max_temperature]
    parts = [weights, config.seed, config.data.row_len, moods, prompts]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _keep(path: Path, examples: Sequence[Example]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")  # several processes may write the same
    pairs = [[each.prompt, each.completion] for each in examples]
    partial.write_text(json.dumps(pairs), encoding="utf-8")
    partial.replace(path)


def _kept(path: Path) -> list[Example]:
    pairs = json.loads(path.read_text(encoding="utf-8"))
    return [Example(prompt, completion, str(path)) for prompt, completion in pairs]


# --- writing --------------------------------------------------------------------------------------


def write_on(
    config: AcceptanceRun, model: Any, prompts: Prompts, shown: str, console: Console
) -> list[Example]:
    """Let the model go on from prompts until their rows are full or its text ends.

    Whatever is drawn elsewhere does not change what is drawn here, nor the other way round.
    """
    section, max_len = config.acceptance, config.data.row_len + 1
    share = section.greedy_share
    # Evenly spread, whatever the order of the prompts tells of them.
    is_greedy = [int((index + 1) * share) > int(index * share) for index in range(len(prompts))]
    pairs = list(zip(prompts, is_greedy, strict=True))
    batches: list[tuple[Prompts, bool]] = []
    for mood in (True, False):
        alike = [prompt for prompt, greedy in pairs if greedy is mood]
        starts = range(0, len(alike), ROWS_AT_ONCE)
        batches += [(alike[first : first + ROWS_AT_ONCE], mood) for first in starts]
    examples: list[Example] = []
    with torch.random.fork_rng():
        torch.manual_seed(config.seed + sum(map(sum, prompts)))
        for batch, greedy in _shown(batches, shown, console):
            span = section.max_temperature - section.min_temperature
            drawn = section.min_temperature + span * torch.rand(len(batch), 1)
            examples += continuations(model, batch, max_len, None if greedy else drawn)
    return examples


def _shown(batches: Sequence[BatchT], shown: str, console: Console) -> Iterable[BatchT]:
    """Show how far it is: by a bar, by a line where no bar can be seen."""
    if console.is_terminal:
        return track(batches, shown, console=console, transient=True)
    console.print(shown, soft_wrap=True)
    return batches


class _Temperatures(LogitsProcessor):
    """A temperature for each row."""

    def __init__(self, temperatures_R1: Tensor) -> None:
        self._temperatures_R1 = temperatures_R1

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return scores / self._temperatures_R1


@torch.no_grad()
def continuations(
    model: Any, prompts: Prompts, max_len: int, temperatures_R1: Tensor | None
) -> list[Example]:
    """Go on from each prompt up to max_len tokens in all, or to an end token, which is kept.

    temperatures_R1: of the rows; None: all are greedy.
    """
    ends = end_ids_of(model)
    pad_id = (*ends, 0)[0]
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (longest - len(one)) + list(one) for one in prompts])
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts])
    is_sampled = temperatures_R1 is not None
    asked = GenerationConfig(
        max_new_tokens=max_len - min(map(len, prompts)),
        do_sample=is_sampled,
        eos_token_id=ends or None,
        pad_token_id=pad_id,
        **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} if is_sampled else {}),
    )
    found = model.generate(
        ids.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=asked,
        logits_processor=[_Temperatures(temperatures_R1.to(model.device))] if is_sampled else [],
    )
    return [
        Example(prompt, _until_end(row[longest:].tolist(), ends)[: max_len - len(prompt)], "")
        for prompt, row in zip(prompts, found, strict=True)
    ]


def _until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    places = [index for index, each in enumerate(ids) if each in ends]
    return ids[: places[0] + 1] if places else ids
