"""Hostile HTTP requests, made from a seed and the server's own OpenAPI document.

What the document allows and what it forbids is made by schemathesis; beside it nearly sound bodies
of completions, of which hypothesis changes some fields to anything, and bytes that are no HTTP
request at all or only the beginning of one. Some clients leave before their answer has ended.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode, openapi

from shortstack.bench.http_connection import json_request, write_request

ValueT = TypeVar("ValueT")
Body = tuple[str, Any]

HOST = "http://localhost"
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
# Bodies that are sound; attacks that change little of them get further than those that change all.
SOUND: Mapping[str, Mapping[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3},
    TEXT: {"prompt": "So:", "max_tokens": 3},
}
SPECULATION_FIELDS = ("mode", "max_draft_len", "exit_layer", "report", "policy")
# Left out of what is sent: another one every time, whatever the seed.
TEST_CASE_ID = "X-Schemathesis-TestCaseId"
MIN_STAY_S, MAX_STAY_S = 0.02, 0.5
# Longer than any sound answer takes here: a server that has not answered by then never will.
PATIENCE_S = 60.0
MALFORMED = "malformed"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@dataclass(frozen=True, slots=True)
class HttpAttack:
    """One connection: what is sent, and for how long an answer is waited for.

    is_whole: it is an HTTP request that a server has to answer, unless the client leaves.
    leaves: the client goes when the time is over; else no answer by then is the server's fault.
    """

    name: str
    request: bytes
    stay_s: float
    is_whole: bool = True
    leaves: bool = False


@st.composite
def mutated_bodies(draw: Callable[[Any], Any], fields_by_path: Mapping[str, Sequence[str]]) -> Body:
    """Return an endpoint and a sound body of which some fields were replaced by anything."""
    path = draw(st.sampled_from(sorted(SOUND)))
    names = st.sampled_from([*fields_by_path[path], "frobnicate"])
    changes = draw(st.dictionaries(names, JSON, max_size=3))
    if draw(st.booleans()):
        inner = draw(st.sampled_from(SPECULATION_FIELDS))
        changes["speculation"] = {inner: draw(JSON)}
    return path, {**SOUND[path], **changes}


def any_bodies(fields_by_path: Mapping[str, Sequence[str]]) -> st.SearchStrategy[Body]:
    """Return bodies of completions: nearly sound ones, and any JSON."""
    return mutated_bodies(fields_by_path) | st.tuples(st.sampled_from(sorted(SOUND)), JSON)


def fields_of(document: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the fields of each endpoint in SOUND, as the document has them."""
    schemas, fields = document["components"]["schemas"], {}
    for path in SOUND:
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        fields[path] = list(schemas[content["schema"]["$ref"].rpartition("/")[2]]["properties"])
    return fields


def make_http_attacks(
    document: dict[str, Any], num: int, seed_: int, headers: Mapping[str, str]
) -> list[HttpAttack]:
    """Return attacks in the order they are to be sent in; equal seeds make equal ones.

    headers: what all of them carry, e.g. a key.
    """
    choose = random.Random(seed_)
    schema = openapi.from_dict(document)
    num_allowed, num_forbidden, num_bodies = (num * share // 100 for share in (40, 20, 30))
    cases = [
        *_drawn(schema.as_strategy(GenerationMode.POSITIVE), num_allowed, seed_),
        *_drawn(schema.as_strategy(GenerationMode.NEGATIVE), num_forbidden, seed_),
    ]
    sent = [_of_case(case, headers, choose) for case in cases]
    sent += [
        (path, json_request("POST", path, body, headers))
        for path, body in _drawn(any_bodies(fields_of(document)), num_bodies, seed_)
    ]
    attacks = [_attack(f"HTTP {path}", request, choose) for path, request in sent]
    attacks += [_malformed(choose, headers) for _ in range(num - len(attacks))]
    choose.shuffle(attacks)
    return attacks


def _drawn(strategy: st.SearchStrategy[ValueT], num: int, first_seed: int) -> list[ValueT]:
    """Draw so many values; hypothesis may stop short of that, and is then begun again."""
    found: list[ValueT] = []
    round_ = 0
    while len(found) < num:

        @seed(first_seed + round_)
        @settings(
            max_examples=num - len(found),
            database=None,
            phases=[Phase.generate],
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def keep(value: ValueT) -> None:
            found.append(value)

        keep()
        round_ += 1
    return found[:num]


def _of_case(
    case: Case[Any], headers: Mapping[str, str], choose: random.Random
) -> tuple[str, bytes]:
    """Write what schemathesis made; bodies of completions are thinned out, so that more get far."""
    if case.path in SOUND and isinstance(case.body, dict):
        _thin_out(case.body, SOUND[case.path], choose)
    prepared = requests.Request(**case.as_transport_kwargs(base_url=HOST)).prepare()
    where = urlsplit(str(prepared.url))
    target = f"{where.path}?{where.query}" if where.query else where.path
    body: Any = prepared.body or b""
    content = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body)
    own = {name: str(value) for name, value in prepared.headers.items() if name != TEST_CASE_ID}
    lines = {"Host": "localhost", **own, **headers}
    return case.path, write_request(str(prepared.method), target, lines, content)


def _thin_out(body: dict[str, Any], sound: Mapping[str, Any], choose: random.Random) -> None:
    """Take fields that nobody needs from half of the bodies, and the model from most.

    What is made of a document has faults that it does not know of: no such model, numbers that
    exclude each other.
    """
    kept = 0.2 if choose.random() < 0.5 else 1.0
    for name in [each for each in body if each not in sound]:
        if choose.random() >= kept or (name == "model" and choose.random() < 0.8):
            del body[name]
    if choose.random() < 0.5:
        body["max_tokens"] = choose.randrange(1, 40)


def _attack(name: str, request: bytes, choose: random.Random) -> HttpAttack:
    """Let one in four clients leave early, and most of those whose answer may be long."""
    leaves = choose.random() < (0.25 if b"max_tokens" in request else 0.9)
    stay_s = choose.uniform(MIN_STAY_S, MAX_STAY_S) if leaves else PATIENCE_S
    return HttpAttack(name, request, stay_s, leaves=leaves)


def _malformed(choose: random.Random, headers: Mapping[str, str]) -> HttpAttack:
    """Return what is no request, or only a part of one."""
    path = choose.choice(sorted(SOUND))
    sound = json_request("POST", path, SOUND[path], headers)
    place = choose.randrange(len(sound))
    request = choose.choice(
        (
            choose.randbytes(choose.choice((1, 7, 100, 5000))),
            sound[:place],
            sound[:place] + choose.randbytes(1) + sound[place + 1 :],
            write_request("POST", path, {**headers, "content-length": "-1"}, b"{}"),
            write_request("POST", path, {**headers, "content-length": "99"}, b"{}"),
            write_request("POST", path, {**headers, "transfer-encoding": "chunked"}, b"zz\r\n{}"),
            write_request("GET", "/" + "x" * 5000, headers, b""),
            write_request("GET", "/v1/models", {**headers, "x-filler": "y" * 70_000}, b""),
            write_request("BREW", path, headers, json.dumps(SOUND[path]).encode()),
        )
    )
    stay_s = choose.uniform(MIN_STAY_S, MAX_STAY_S)
    return HttpAttack(MALFORMED, request, stay_s, is_whole=False, leaves=True)
