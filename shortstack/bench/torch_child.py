"""Child process of the bench that decodes with torch, alone: our plain decoding, or transformers.

    python -m shortstack.bench.torch_child plain|hf --model DIR [--dtype …] [--device …]

Reads orders from stdin and writes answers to stdout, a JSON line each; ends with its stdin. Times
are taken in this process and leave the pipes out. It waits in a read, so it costs nothing while
other peers are measured.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TextIO

import torch

from shared.model.compute_threads import ComputeThreads
from shared.model.costs import measure_costs
from shared.model.layer_stack import load_stack
from shared.model.plain import PlainDecoder
from shared.speculation.cost_model import CostTable
from shared.speculation.vocabulary import SamplingParams, StopParams
from shortstack.bench.torch_messages import (
    Answer,
    CostsOrder,
    EarlyExit,
    Order,
    Ready,
    decode_order,
    encode_answer,
    encode_costs,
)

SHOWN_VARIABLES = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT")


class Decoder(Protocol):
    """What answers orders."""

    def generate(self, order: Order) -> Answer:
        """Continue a prompt greedily."""
        ...


class Plain:
    """Our own decoding without drafts."""

    def __init__(self, model_dir: Path, dtype: str, device: str, num_threads: int) -> None:
        self._place = (model_dir, dtype, device)
        self._num_threads = num_threads
        self._decoder = PlainDecoder(*self._place, num_threads)

    def generate(self, order: Order) -> Answer:
        """Continue a prompt greedily."""
        result = self._decoder.generate(
            list(order.token_ids),
            SamplingParams(),
            StopParams(order.max_new_tokens, frozenset(order.eos_token_ids)),
            with_gaps=order.with_gaps,
        )
        ids, gaps = tuple(result.token_ids), tuple(result.gaps)
        return Answer(ids, 1, result.prefill_ns, result.decode_ns, gaps)

    def costs(self, order: CostsOrder) -> CostTable:
        """Measure what drafting, closing, verifying and plain steps take.

        The model is loaded again, with the head that drafts are made by; one at a time, as it may
        fill half of the memory.
        """
        del self._decoder
        stack = load_stack(
            *self._place, draft_vocab=order.draft_vocab, exit_adapters=order.exit_adapters
        )
        stack.threads = ComputeThreads.for_model(stack.config, self._num_threads)
        self._decoder = PlainDecoder(*self._place, stack=stack)
        return measure_costs(stack, order.exit_layers, order.max_draft_len).to_table()


class Transformers:
    """`transformers.generate`, with or without its early exit."""

    def __init__(self, model_dir: Path, dtype: str, device: str, num_threads: int) -> None:
        if num_threads:
            torch.set_num_threads(num_threads)
        self._model = load_transformers(model_dir, dtype, device)

    @torch.inference_mode()
    def generate(self, order: Order) -> Answer:
        """Continue a prompt greedily."""
        prompt = torch.tensor([list(order.token_ids)], device=self._model.device)
        clock = _Clock()
        self._model.generation_config = _generation_config(order)
        extra = {"assistant_early_exit": order.early_exit.exit_layer} if order.early_exit else {}
        self._model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=order.max_new_tokens,
            do_sample=False,
            streamer=clock,
            **extra,
        )
        return clock.answer()


def load_transformers(model_dir: Path, dtype: str, device: str, **options: object) -> Any:
    """Load a model as transformers has it, silently; options go to `from_pretrained`."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    model = AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=getattr(torch, dtype), local_files_only=True, **options
    )
    return torch.nn.Module.to(model, device).eval()


def _generation_config(order: Order) -> Any:
    from transformers import GenerationConfig

    config = GenerationConfig(eos_token_id=list(order.eos_token_ids) or None, pad_token_id=0)
    if order.early_exit is not None:
        _configure_drafts(config, order.early_exit)
    return config


def _configure_drafts(config: Any, early_exit: EarlyExit) -> None:
    config.num_assistant_tokens = early_exit.num_assistant_tokens
    config.num_assistant_tokens_schedule = early_exit.schedule
    config.assistant_confidence_threshold = early_exit.confidence_threshold


class _Clock:
    """A streamer that notes when tokens come; the first call brings the prompt."""

    def __init__(self) -> None:
        self._started_ns = time.perf_counter_ns()
        self._times_ns: list[int] = []
        self._tokens: list[list[int]] = []

    def put(self, value: torch.Tensor) -> None:
        """Take tokens as they come."""
        self._times_ns.append(time.perf_counter_ns())
        self._tokens.append(value.flatten().tolist())

    def end(self) -> None:
        """Do nothing: the last tokens have come before."""

    def answer(self) -> Answer:
        """Return what came, and when."""
        (_, *tokens), (_, *times_ns) = self._tokens, self._times_ns
        return Answer(
            token_ids=tuple(token for part in tokens for token in part),
            first_len=len(tokens[0]),
            first_ns=times_ns[0] - self._started_ns,
            decode_ns=times_ns[-1] - times_ns[0],
        )


DECODERS: dict[str, Callable[[Path, str, str, int], Decoder]] = {
    "plain": Plain,
    "hf": Transformers,
}


def say_ready(answers: TextIO, num_threads: int, details: str = "") -> None:
    """Write the first message; num_threads 0: as many as torch has."""
    shown = {name: os.environ[name] for name in SHOWN_VARIABLES if name in os.environ}
    ready = Ready(num_threads or torch.get_num_threads(), shown, details)
    print(encode_answer(ready), file=answers, flush=True)


def serve(decoder: Decoder, orders: TextIO, answers: TextIO) -> None:
    """Answer orders until there are no more."""
    for line in orders:
        order = decode_order(line)
        if isinstance(order, Order):
            answer = encode_answer(decoder.generate(order))
        else:
            assert isinstance(decoder, Plain), "only our own layers can be timed one by one"
            answer = encode_costs(decoder.costs(order))
        print(answer, file=answers, flush=True)


def model_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what `ModelChoice.words` writes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--num-threads", type=int, default=0)
    return parser


def take_stdout() -> TextIO:
    """Return stdout for the answers; what libraries print must not get between them."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def main(arguments: list[str]) -> None:
    """Load the model and serve."""
    parser = model_parser(__doc__)
    parser.add_argument("decoder", choices=sorted(DECODERS))
    options = parser.parse_args(arguments)
    answers = take_stdout()
    place = (options.model, options.dtype, options.device, options.num_threads)
    decoder = DECODERS[options.decoder](*place)
    say_ready(answers, options.num_threads)
    serve(decoder, sys.stdin, answers)


if __name__ == "__main__":
    main(sys.argv[1:])
