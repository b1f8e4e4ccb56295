"""Child process of the bench in which transformers serves streams of tokens.

    python -m shortstack.bench.serve.child hf|hf-continuous --model DIR [--attention sdpa] …

hf               `generate`, one order after the other, as they come
hf-continuous    continuous batching with a paged cache, through the manager that serving uses

Reads orders from stdin and writes tokens to stdout as they come, a JSON line each; ends with its
stdin. Sizes the paged cache for what is asked of it; everything else is as transformers has it.
"""

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

import torch

from shortstack.bench.serve.stream_messages import (
    StreamOrder,
    StreamTokens,
    decode_stream_order,
    encode_message,
)
from shortstack.bench.torch_child import load_transformers, model_parser, say_ready, take_stdout

# A page of every layer holds this many tokens; transformers' own default.
PAGE_SIZE = 256
POLL_S = 0.2
Send = Callable[[StreamTokens], None]


class OneByOne:
    """`model.generate`, an order at a time; keeps nothing between them."""

    def __init__(self, model: Any, max_cached_tokens: int, shares_prefixes: bool) -> None:
        self._model = model

    @property
    def details(self) -> str:
        """What is worth telling of the settings."""
        return f"generate, {self._model.config._attn_implementation} attention"

    def serve(self, orders: TextIO, send: Send) -> None:
        """Answer orders until there are no more."""
        for line in orders:
            self._generate(decode_stream_order(line), send)

    @torch.inference_mode()
    def _generate(self, order: StreamOrder, send: Send) -> None:
        prompt = torch.tensor([list(order.token_ids)], device=self._model.device)
        self._model.generation_config = generation_config(order)
        self._model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=order.max_new_tokens,
            streamer=_Streamer(order.order_id, send),
        )


class _Streamer:
    """Sends tokens on as generate makes them; the first call brings the prompt."""

    def __init__(self, order_id: int, send: Send) -> None:
        self._order_id = order_id
        self._send = send
        self._is_prompt = True

    def put(self, value: torch.Tensor) -> None:
        """Take tokens as they come."""
        if not self._is_prompt:
            self._send(StreamTokens(self._order_id, tuple(value.flatten().tolist())))
        self._is_prompt = False

    def end(self) -> None:
        """Tell the end."""
        self._send(StreamTokens(self._order_id, is_last=True))


class Continuous:
    """Continuous batching: orders join and leave the running batch."""

    def __init__(self, model: Any, max_cached_tokens: int, shares_prefixes: bool) -> None:
        from transformers.generation.configuration_utils import ContinuousBatchingConfig

        config = ContinuousBatchingConfig(
            page_size=PAGE_SIZE,
            num_blocks=-(-max_cached_tokens // PAGE_SIZE),
            allow_block_sharing=shares_prefixes,
            auto_switch_to_flash=False,
        )
        self._attention = model.config._attn_implementation
        self._manager = model.init_continuous_batching(
            generation_config(), continuous_batching_config=config
        )
        self._manager.warmup()
        self._manager.start()
        self._num_sent: dict[str, int] = {}

    @property
    def details(self) -> str:
        """What is worth telling of the settings."""
        config = self._manager.continuous_batching_config
        return (
            f"continuous batching, paged {self._attention} attention, {config.num_blocks} blocks "
            f"of {config.page_size}, {config.max_batch_tokens} tokens a batch, "
            f"prefix sharing {'on' if config.allow_block_sharing else 'off'}"
        )

    def serve(self, orders: TextIO, send: Send) -> None:
        """Answer orders until there are no more."""
        threading.Thread(target=self._answer, args=(send,), daemon=True).start()
        for line in orders:
            order = decode_stream_order(line)
            self._num_sent[str(order.order_id)] = 0
            self._manager.add_request(
                list(order.token_ids),
                request_id=str(order.order_id),
                max_new_tokens=order.max_new_tokens,
                eos_token_id=list(order.eos_token_ids) or -1,
                streaming=True,
            )
        self._manager.stop(hard_stop=True)

    def _answer(self, send: Send) -> None:
        """Send on what the batch makes; the process ends with the thread that makes it."""
        while True:
            output = self._manager.get_result(timeout=POLL_S)
            if output is not None:
                self._send_new(output, send)
            elif not self._manager.is_running():
                print(self._manager.background_thread_status.fatal_error, file=sys.stderr)
                os._exit(1)

    def _send_new(self, output: Any, send: Send) -> None:
        """Send the tokens that are new; an output holds all of them."""
        key = output.request_id
        new = tuple(output.generated_tokens[self._num_sent[key] :])
        self._num_sent[key] += len(new)
        send(StreamTokens(int(key), new, output.is_finished(), output.error or ""))
        if output.is_finished():
            del self._num_sent[key]


def generation_config(order: StreamOrder | None = None) -> Any:
    """Return greedy decoding, with the ends of an order."""
    from transformers import GenerationConfig

    ends = list(order.eos_token_ids) if order else []
    return GenerationConfig(do_sample=False, eos_token_id=ends or None, pad_token_id=0)


SERVERS: dict[str, Callable[[Any, int, bool], OneByOne | Continuous]] = {
    "hf": OneByOne,
    "hf-continuous": Continuous,
}


def main(arguments: list[str]) -> None:
    """Load the model and serve."""
    parser = model_parser(__doc__)
    parser.add_argument("server", choices=sorted(SERVERS))
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--max-cached-tokens", type=int, default=1 << 16)
    parser.add_argument("--share-prefixes", action="store_true")
    options = parser.parse_args(arguments)
    answers = take_stdout()
    if options.num_threads:
        torch.set_num_threads(options.num_threads)
    model = load_transformers(
        options.model, options.dtype, options.device, attn_implementation=options.attention
    )
    server = SERVERS[options.server](model, options.max_cached_tokens, options.share_prefixes)

    def send(message: StreamTokens) -> None:
        print(encode_message(message), file=answers, flush=True)

    say_ready(answers, options.num_threads, server.details)
    server.serve(sys.stdin, send)


if __name__ == "__main__":
    main(sys.argv[1:])
