"""The promise on a GPU: noise, a fused cell, and a split cell over CUDA IPC."""

from pathlib import Path

import pytest
import torch

from shared.model.config import read_config
from shared.model.layer_stack import LayerStack, load_stack
from shared.model.noise import gumbel
from shared.model.plain import PlainDecoder
from shared.speculation.draft_vocab import DraftVocab
from shared.speculation.vocabulary import Decision, SamplingParams, StopParams
from shortstack.client import Client
from shortstack.plan import StackConfig
from shortstack.stack import Stack
from tests.cluster.streams import make_requests, run_plain
from tests.cluster.tiny_model import write_tiny_model
from tests.engine_harness import EngineHarness, make_request
from tests.golden.reference import GREEDY, TieCount, make_prompt, sampled
from tests.model_builder import VOCAB_SIZE

pytestmark = pytest.mark.gpu

NUM_NEW = 40


def test_noise_is_the_same_on_the_gpu_as_on_the_cpu(cuda_device: torch.device) -> None:
    positions = [0, 1, 77, 4096]
    on_cpu = gumbel(12345, positions, 5000, torch.device("cpu"))
    on_gpu = gumbel(12345, positions, 5000, cuda_device).cpu()
    assert torch.equal(on_cpu, on_gpu)


@pytest.mark.parametrize("exit_layer", [1, 2, 3])
@pytest.mark.parametrize("sampling", [GREEDY, sampled(3)], ids=["greedy", "sampled"])
def test_a_fused_cell_on_the_gpu_equals_plain_decoding_there(
    tiny_dir: Path, exit_layer: int, sampling: SamplingParams
) -> None:
    stack = load_stack(tiny_dir, "float32", "cuda:0")
    prompt = make_prompt(5, 23)
    plain = PlainDecoder(tiny_dir, stack=stack).generate(prompt, sampling, StopParams(NUM_NEW))
    wished = Decision("layerskip", exit_layer, 4)
    with EngineHarness(stack) as cell:
        (found,) = cell.run(make_request(prompt, NUM_NEW, wished=wished, sampling=sampling))
    TieCount().compare(found.token_ids, plain.token_ids, plain.gaps, f"exit {exit_layer}")


@pytest.mark.parametrize("sampling", [GREEDY, sampled(3)], ids=["greedy", "sampled"])
def test_drafting_from_a_part_of_the_vocabulary_on_the_gpu_equals_plain_decoding(
    tiny_dir: Path, sampling: SamplingParams
) -> None:
    config = read_config(tiny_dir)
    vocab = DraftVocab(VOCAB_SIZE, "", 1.0, ("made up",), tuple(range(0, VOCAB_SIZE, 2)))
    stack = LayerStack(config, "cuda:0", draft_vocab=vocab)
    prompt = make_prompt(5, 23)
    plain = PlainDecoder(tiny_dir, stack=stack).generate(prompt, sampling, StopParams(NUM_NEW))
    wished = Decision("layerskip", 2, 4)
    with EngineHarness(stack) as cell:
        (found,) = cell.run(make_request(prompt, NUM_NEW, wished=wished, sampling=sampling))
    TieCount().compare(found.token_ids, plain.token_ids, plain.gaps, "a part of the vocabulary")


async def test_a_split_cell_over_cuda_ipc_equals_plain_decoding(tmp_path: Path) -> None:
    model_dir = write_tiny_model(tmp_path / "tiny")
    requests = make_requests(4, max_new_tokens=60)
    async with (
        Stack(StackConfig(model=model_dir, device="cuda:0")) as stack,
        Client(stack.target) as client,
    ):
        expected = await run_plain(client, requests)
        found = [(await client.complete(request)).token_ids for request in requests]
    assert found == expected
