"""The tokens that should have come: transformers under greedy, our own plain decoding otherwise.

Both run in this process, alone, after the stack has given its answers. Imported late by the
command, as it loads torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.utils.logging import disable_progress_bar

from shared.model.plain import PlainDecoder
from shared.speculation.vocabulary import SamplingParams, StopParams


@dataclass(frozen=True, slots=True)
class Expected:
    """Ids of the reference and its top-two gap at each."""

    token_ids: tuple[int, ...]
    gaps: tuple[float, ...]


class Reference(Protocol):
    """Something that continues a prompt as it should be."""

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, seed: int) -> Expected:
        """Continue the prompt; the seed matters where there is sampling."""
        ...


class TransformersReference:
    """Greedy decoding by transformers in float32 with eager attention."""

    def __init__(self, model_dir: Path) -> None:
        disable_progress_bar()
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            model_dir, dtype=torch.float32, attn_implementation="eager", local_files_only=True
        ).eval()
        # What else a checkpoint's generation_config.json asks for is not plain greedy decoding.
        ends = self._model.generation_config.eos_token_id
        self._model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=0)

    @torch.inference_mode()
    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, seed: int) -> Expected:
        """Continue the prompt greedily."""
        prompt = torch.tensor([list(prompt_ids)])
        answer = self._model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        token_ids = answer.sequences[0, len(prompt_ids) :].tolist()
        return Expected(tuple(token_ids), tuple(_top_two_gap(row) for row in answer.logits))


def _top_two_gap(logits_1V: torch.Tensor) -> float:
    best = logits_1V[0].float().topk(2).values
    return float(best[0] - best[1])


class PlainReference:
    """Our own plain decoding: the same noise, seed and dtype, no speculation, no server."""

    def __init__(
        self,
        model_dir: Path,
        sampling: SamplingParams,
        stop_token_ids: frozenset[int],
        *,
        dtype: str,
        device: str,
        num_threads: int,
    ) -> None:
        self._decoder = PlainDecoder(model_dir, dtype, device, num_threads)
        self._sampling = sampling
        self._stop_token_ids = stop_token_ids

    def generate(self, prompt_ids: Sequence[int], max_new_tokens: int, seed: int) -> Expected:
        """Continue the prompt with the session's own noise."""
        stop = StopParams(max_new_tokens, self._stop_token_ids)
        sampling = replace(self._sampling, seed=seed)
        result = self._decoder.generate(list(prompt_ids), sampling, stop)
        return Expected(tuple(result.token_ids), tuple(result.gaps))
