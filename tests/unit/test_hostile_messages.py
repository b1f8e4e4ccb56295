"""Whatever a message holds, reading it returns a sound value or an error of ours."""

from contextlib import suppress
from typing import TypeVar

from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.request import MAX_STOP_STRINGS, RequestLimits, check_request
from services.gateway.tokenizer import ModelLimits
from services.verify.requests import RequestRules, read_request
from shared.errors import ShortstackError
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.rounds import task_from_proto
from shared.speculation.vocabulary import Decision, ModelIdentity
from shortstack.bench.hostile.attacks import SOUND, Attacker

VOCAB_SIZE, CONTEXT_LEN = 400, 128
LIMITS = RequestLimits("small", ModelLimits(VOCAB_SIZE, CONTEXT_LEN, frozenset({0})), 20, 50)
IDENTITY = ModelIdentity("small", "f", "llama", "float32", 4, 8, VOCAB_SIZE, CONTEXT_LEN, (0,))
RULES = RequestRules(IDENTITY, Decision("layerskip", 2, 4, 0.0), max_draft_len=8, exits=(1, 2))

MessageT = TypeVar("MessageT", bound=Message)
attacks = st.tuples(st.integers(0, 2**32), st.sampled_from((0.1, 0.3, 0.9)))


def hostile(sound: Message, kind: type[MessageT], attack: tuple[int, float]) -> MessageT:
    """Return a sound message with some fields changed."""
    message = kind()
    message.CopyFrom(sound)
    seed, rate = attack
    Attacker(seed).change(message, rate)
    return message


@settings(max_examples=300, deadline=None)
@given(attacks)
def test_a_gateways_request(attack: tuple[int, float]) -> None:
    message = hostile(SOUND["GenerateText"], pb.GenerateTextRequest, attack)
    with suppress(ShortstackError):
        request = check_request(message, LIMITS)
        assert request.max_new_tokens <= 50 and len(request.stop_strings) <= MAX_STOP_STRINGS
        assert 0 <= request.sampling.temperature <= 100 and 0 < request.sampling.top_p <= 1
        if message.WhichOneof("input") == "token_ids":
            assert all(isinstance(each, int) and each < VOCAB_SIZE for each in request.prompt)


@settings(max_examples=300, deadline=None)
@given(attacks)
def test_a_verify_workers_request(attack: tuple[int, float]) -> None:
    message = hostile(SOUND["Generate"], pb.GenerateRequest, attack)
    with suppress(ShortstackError):
        request = read_request(message, RULES)
        assert 0 < len(request.token_ids) < CONTEXT_LEN and max(request.token_ids) < VOCAB_SIZE
        assert 0 <= request.num_emitted < request.stop.max_new_tokens
        assert request.wished.max_draft_len <= 8 and 0 <= request.wished.stop_threshold <= 1


@settings(max_examples=300, deadline=None)
@given(attacks)
def test_a_draft_workers_round(attack: tuple[int, float]) -> None:
    sound = SOUND["Round"]
    assert isinstance(sound, pb.RoundRequest)
    message = hostile(sound.tasks[0], pb.RoundTask, attack)
    with suppress(ShortstackError):
        task = task_from_proto(message, VOCAB_SIZE)
        assert task.committed_len >= 1 and task.decision.max_draft_len >= 1
        assert all(token < VOCAB_SIZE for token in task.pending_tokens)
