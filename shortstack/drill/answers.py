"""Requests and their plain answers: what is asked during drills, and what must be answered.

Half of the requests are greedy, half sampled with a seed. The answers are those of the stack itself
without speculation, before anything is broken; where a later one differs, plain decoding in this
process tells a near tie from a mismatch.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shared.ids import new_request_id
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.vocabulary import SamplingParams
from shortstack.bench.serve.made_prompts import random_ids
from shortstack.checking.compare import Outcome, compare
from shortstack.client import Client
from shortstack.request import PLAIN, Limits, Request, Speculation, pinned

PROMPT_LENS = (8, 24, 48, 96)
MAX_NEW_TOKENS = 160
DRAFT_LEN = 4
TEMPERATURE = 0.8
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """A request and the ids that plain decoding gives it."""

    request: Request
    token_ids: tuple[int, ...] = ()

    def again(self) -> Request:
        """Return the request under a new id."""
        return replace(self.request, request_id=new_request_id())


@dataclass(frozen=True, slots=True)
class Deviation:
    """An answer that began otherwise than it should."""

    request: Request
    token_ids: tuple[int, ...]


def make_requests(model: pb.ModelInfo, num: int, seed: int) -> list[Request]:
    """Make different requests that always draft."""
    speculation = pinned(max(1, model.num_layers // 4), DRAFT_LEN)
    room = model.max_context_len - max(PROMPT_LENS)
    limits = Limits(max_new_tokens=min(MAX_NEW_TOKENS, room), ignore_eos=True)
    return [_make(index, model.vocab_size, seed, limits, speculation) for index in range(num)]


def _make(
    index: int, vocab_size: int, seed: int, limits: Limits, speculation: Speculation
) -> Request:
    return Request(
        random_ids(PROMPT_LENS[index % len(PROMPT_LENS)], vocab_size, f"{seed} drill {index}"),
        # Alternating by pairs, so that both kinds come in all lengths.
        SamplingParams(temperature=TEMPERATURE * (index // 4 % 2), seed=seed + index),
        limits,
        speculation,
        timeout_s=TIMEOUT_S,
    )


async def learn_answers(client: Client, requests: Sequence[Request]) -> list[KnownAnswer]:
    """Ask for plain decoding of every request."""
    plain = (replace(each, speculation=PLAIN, request_id=new_request_id()) for each in requests)
    completions = await asyncio.gather(*map(client.complete, plain))
    return [
        KnownAnswer(request, completion.token_ids)
        for request, completion in zip(requests, completions, strict=True)
    ]


def is_near_tie(deviation: Deviation, model_dir: Path) -> bool:
    """Say whether plain decoding scores the two best tokens the same where an answer parts."""
    from shortstack.checking.reference import PlainReference

    request, token_ids = deviation.request, deviation.token_ids
    # Alone and without end tokens, as the requests are.
    reference = PlainReference(
        model_dir, request.sampling, frozenset(), dtype="float32", device="cpu", num_threads=0
    )
    prompt = tuple(token for token in request.prompt if isinstance(token, int))
    expected = reference.generate(prompt, len(token_ids), request.sampling.seed)
    verdict = compare(token_ids, expected.token_ids, expected.gaps)
    return verdict.outcome is not Outcome.MISMATCH
