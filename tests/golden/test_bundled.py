"""The bundled checkpoint: real weights and text, speculation equal to transformers and to plain."""

import json
from collections.abc import Sequence

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from shared.model.layer_stack import LayerStack, load_stack
from shared.model.plain import PlainDecoder
from shared.speculation.vocabulary import Decision, StopParams
from shortstack.checkpoint import BUNDLED
from shortstack.demo import PROMPTS
from tests.engine_harness import EngineHarness, HarnessOptions, make_request, split_with
from tests.golden.reference import GREEDY, TieCount, sampled

NUM_NEW = 48
OPTIONS = HarnessOptions(page_size=16)


@pytest.fixture(scope="module")
def stack() -> LayerStack:
    """The whole checkpoint."""
    return load_stack(BUNDLED)


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    """The demo's prompts, one of each kind of text, as ids."""
    tokenizer = Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))
    lines = PROMPTS.read_text().splitlines()
    return [tokenizer.encode(json.loads(line)["prompt"]).ids for line in lines]


@pytest.fixture(scope="module")
def expected(prompts: list[list[int]]) -> list[tuple[list[int], list[float]]]:
    """What transformers says greedily behind each prompt, and its top-two gaps."""
    model = AutoModelForCausalLM.from_pretrained(BUNDLED, dtype=torch.float32)
    return [_generate(model, prompt) for prompt in prompts]


def _generate(model: torch.nn.Module, prompt: Sequence[int]) -> tuple[list[int], list[float]]:
    ids = torch.tensor([list(prompt)])
    found = model.generate(  # type: ignore[operator]
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=NUM_NEW,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    tops = [logits[0].topk(2).values for logits in found.logits]
    gaps = [float(top[0] - top[1]) for top in tops]
    return found.sequences[0, len(prompt) :].tolist(), gaps


@pytest.mark.parametrize("exit_layer", [2, 4, 9])
def test_greedy_speculation_says_what_transformers_says(
    stack: LayerStack,
    prompts: list[list[int]],
    expected: list[tuple[list[int], list[float]]],
    exit_layer: int,
    ties: TieCount,
) -> None:
    drafter = split_with(load_stack(BUNDLED, num_layers=exit_layer))
    wished = Decision("layerskip", exit_layer, 4)
    with EngineHarness(stack, drafter, OPTIONS) as cell:
        found = cell.run(
            *(
                make_request(prompt, NUM_NEW, session_id=str(index), wished=wished)
                for index, prompt in enumerate(prompts)
            )
        )
    for index, (recorded, (tokens, gaps)) in enumerate(zip(found, expected, strict=True)):
        ties.compare(recorded.token_ids, tokens, gaps, f"prompt {index}, exit {exit_layer}")
        assert recorded.summary.num_draft_tokens > 0


def test_sampled_speculation_says_what_plain_decoding_says(
    stack: LayerStack, prompts: list[list[int]], ties: TieCount
) -> None:
    plain = PlainDecoder(BUNDLED, stack=stack)
    for index, prompt in enumerate(prompts):
        sampling = sampled(index)
        reference = plain.generate(prompt, sampling, StopParams(NUM_NEW))
        wished = Decision("layerskip", 3, 3, 0.2)
        with EngineHarness(stack, options=OPTIONS) as cell:
            request = make_request(prompt, NUM_NEW, wished=wished, sampling=sampling)
            (found,) = cell.run(request)
        ties.compare(found.token_ids, reference.token_ids, reference.gaps, f"prompt {index}")


def test_greedy_plain_decoding_says_what_transformers_says(
    stack: LayerStack,
    prompts: list[list[int]],
    expected: list[tuple[list[int], list[float]]],
    ties: TieCount,
) -> None:
    plain = PlainDecoder(BUNDLED, stack=stack)
    for index, (prompt, (tokens, gaps)) in enumerate(zip(prompts, expected, strict=True)):
        found = plain.generate(prompt, GREEDY, StopParams(NUM_NEW))
        ties.compare(found.token_ids, tokens, gaps, f"prompt {index}")
