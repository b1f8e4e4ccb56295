"""Messages <-> values of the vocabulary. What a peer sent is checked here, before it is used."""

import math
from collections.abc import Iterable
from typing import Protocol

from shared.control.fair_queue import Priority
from shared.errors import InvalidRequest
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.draft_vocab import DraftVocab
from shared.speculation.vocabulary import (
    FinishReason,
    ModelIdentity,
    SamplingParams,
    SpeculationSummary,
    TokenSource,
)

SOURCE_ON_WIRE = {
    TokenSource.PLAIN: pb.TOKEN_SOURCE_PLAIN,
    TokenSource.ACCEPTED: pb.TOKEN_SOURCE_ACCEPTED,
    TokenSource.RECOVERED: pb.TOKEN_SOURCE_RECOVERED,
    TokenSource.BONUS: pb.TOKEN_SOURCE_BONUS,
}
REASON_ON_WIRE = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.CANCELLED: pb.FINISH_REASON_CANCELLED,
}

PRIORITY_ON_WIRE = {
    Priority.NORMAL: pb.PRIORITY_NORMAL,
    Priority.LOW: pb.PRIORITY_LOW,
}
MAX_TENANT_CHARS = 64
MAX_SESSION_KEY_CHARS = 128
MAX_TASK_CHARS = 64
# What a request may say of whether it speculates; empty is the first.
AUTO, NEVER, FORCE = SPECULATION_MODES = ("auto", "off", "force")


def tenant_from_proto(tenant: str) -> str:
    """Check a tenant's name.

    Raises:
        InvalidRequest: it is too long, or would not look the same in a log.
    """
    return _name(tenant, "tenant", MAX_TENANT_CHARS)


def session_key_from_proto(session_key: str) -> str:
    """Check the name of a conversation that goes on over several requests.

    Raises:
        InvalidRequest: it is too long or not printable.
    """
    return _name(session_key, "session_key", MAX_SESSION_KEY_CHARS)


def task_label_from_proto(label: str, field: str) -> str:
    """Check what names a kind of text: a client's label, or the key made of it or in its place.

    Raises:
        InvalidRequest: it is too long or not printable.
    """
    return _name(label, field, MAX_TASK_CHARS)


def _name(name: str, field: str, max_chars: int) -> str:
    check_field(
        len(name) <= max_chars and name.isprintable(),
        field,
        f"must be at most {max_chars} printable characters",
    )
    return name


def priority_from_proto(priority: int) -> Priority:
    """Read a priority; unspecified is normal.

    Raises:
        InvalidRequest: it is none that this version knows.
    """
    if priority == pb.PRIORITY_UNSPECIFIED:
        return Priority.NORMAL
    known = [each.value for each in Priority]
    check_field(priority in known, "priority", f"{priority} is not known; use normal or low")
    return Priority(priority)


def mode_from_proto(mode: str) -> str:
    """Check a mode of speculation; return the one in force.

    Raises:
        InvalidRequest: it is none of `SPECULATION_MODES`.
    """
    is_known = mode in ("", *SPECULATION_MODES)
    check_field(is_known, "speculation.mode", f"{mode!r} is none of {', '.join(SPECULATION_MODES)}")
    return mode or AUTO


def sampling_from_proto(message: pb.SamplingParams, vocab_size: int) -> SamplingParams:
    """Read and check sampling parameters.

    Raises:
        InvalidRequest: a parameter is out of range; its field is named.
    """
    params = SamplingParams(
        temperature=message.temperature,
        top_k=message.top_k,
        top_p=message.top_p if message.HasField("top_p") else 1.0,
        min_p=message.min_p,
        seed=message.seed,
        repetition_penalty=(
            message.repetition_penalty if message.HasField("repetition_penalty") else 1.0
        ),
        presence_penalty=message.presence_penalty,
        frequency_penalty=message.frequency_penalty,
        logit_bias=tuple(sorted(message.logit_bias.items())),
    )
    check_field(0 <= params.temperature <= 100, "sampling.temperature", "must lie in [0, 100]")
    check_field(0 < params.top_p <= 1, "sampling.top_p", "must lie in (0, 1]")
    check_field(0 <= params.min_p <= 1, "sampling.min_p", "must lie in [0, 1]")
    check_field(
        0 < params.repetition_penalty <= 100,
        "sampling.repetition_penalty",
        "must lie in (0, 100]; 1 is no penalty",
    )
    for name in ("presence_penalty", "frequency_penalty"):
        check_field(-2 <= getattr(params, name) <= 2, f"sampling.{name}", "must lie in [-2, 2]")
    for token, bias in params.logit_bias:
        _check_bias(token, bias, vocab_size)
    return params


def _check_bias(token: int, bias: float, vocab_size: int) -> None:
    field = "sampling.logit_bias"
    check_field(token < vocab_size, field, f"token {token} is not in the vocabulary")
    check_field(math.isfinite(bias), field, "must be finite")


def check_field(holds: bool, field: str, message: str) -> None:
    """Refuse a field of a message unless what must hold of it does.

    Args:
        holds: a comparison that NaN fails, so that NaN is refused too.

    Raises:
        InvalidRequest: it does not hold; names the field.
    """
    if not holds:
        raise InvalidRequest(f"{field} {message}", field=field)


def sampling_to_proto(params: SamplingParams) -> pb.SamplingParams:
    """Write sampling parameters; what has no effect is left out."""
    message = pb.SamplingParams(
        temperature=params.temperature,
        top_k=params.top_k,
        min_p=params.min_p,
        seed=params.seed,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        logit_bias=dict(params.logit_bias),
    )
    if params.top_p != 1.0:
        message.top_p = params.top_p
    if params.repetition_penalty != 1.0:
        message.repetition_penalty = params.repetition_penalty
    return message


def summary_to_proto(summary: SpeculationSummary) -> pb.SpeculationSummary:
    """Write a summary."""
    return pb.SpeculationSummary(
        num_drafts=summary.num_drafts,
        num_draft_tokens=summary.num_draft_tokens,
        num_accepted_tokens=summary.num_accepted_tokens,
        num_plain_rounds=summary.num_plain_rounds,
        num_emitted_in_drafts=summary.num_emitted_in_drafts,
        acceptance_histogram=summary.acceptance_histogram,
    )


def summary_from_proto(message: pb.SpeculationSummary) -> SpeculationSummary:
    """Read a summary."""
    return SpeculationSummary(
        num_drafts=message.num_drafts,
        num_draft_tokens=message.num_draft_tokens,
        num_accepted_tokens=message.num_accepted_tokens,
        num_plain_rounds=message.num_plain_rounds,
        num_emitted_in_drafts=message.num_emitted_in_drafts,
        acceptance_histogram=list(message.acceptance_histogram),
    )


def identity_to_proto(identity: ModelIdentity) -> pb.ModelInfo:
    """Write a model's identity."""
    return pb.ModelInfo(
        model_name=identity.model_name,
        model_fingerprint=identity.model_fingerprint,
        model_type=identity.model_type,
        dtype=identity.dtype,
        num_layers=identity.num_layers,
        hidden_size=identity.hidden_size,
        vocab_size=identity.vocab_size,
        max_context_len=identity.max_context_len,
        eos_token_ids=identity.eos_token_ids,
    )


def draft_vocab_to_proto(vocab: DraftVocab | None) -> pb.DraftVocabInfo | None:
    """Write what others may know of a draft vocabulary; None leaves the field unset."""
    if vocab is None:
        return None
    return pb.DraftVocabInfo(num_tokens=len(vocab.token_ids), coverage=vocab.coverage)


class AdapterSizes(Protocol):
    """What is told of exit adapters; they themselves are tensors, which the gateway has none of."""

    @property
    def rank(self) -> int:
        """Rank of each."""
        ...

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """Exits that have one, ascending."""
        ...


def exit_adapters_to_proto(adapters: AdapterSizes | None) -> pb.ExitAdaptersInfo | None:
    """Write what others may know of exit adapters; None leaves the field unset."""
    if adapters is None:
        return None
    return pb.ExitAdaptersInfo(rank=adapters.rank, exit_layers=adapters.exit_layers)


class HeadSizes(Protocol):
    """What is told of acceptance heads."""

    @property
    def width(self) -> int:
        """Inner size of each."""
        ...

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """Exits that have one, ascending."""
        ...


def acceptance_heads_to_proto(heads: HeadSizes | None) -> pb.AcceptanceHeadsInfo | None:
    """Write what others may know of acceptance heads; None leaves the field unset."""
    if heads is None:
        return None
    return pb.AcceptanceHeadsInfo(width=heads.width, exit_layers=heads.exit_layers)


class DraftAdapterNames(Protocol):
    """What is told of a draft adapter."""

    @property
    def exit_layer(self) -> int:
        """Exit that it hangs on."""
        ...

    @property
    def digest(self) -> str:
        """Hash of its files."""
        ...

    @property
    def num_parameters(self) -> int:
        """Weights."""
        ...


def draft_adapters_to_proto(adapters: Iterable[DraftAdapterNames]) -> list[pb.DraftAdapterInfo]:
    """Write what others may know of draft adapters, in their order."""
    return [
        pb.DraftAdapterInfo(
            exit_layer=each.exit_layer, digest=each.digest, num_parameters=each.num_parameters
        )
        for each in adapters
    ]
