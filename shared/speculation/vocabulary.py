"""The vocabulary of a round: plain values that everything else is written in.

Knows nothing of models, tensors, networks or stores. Intervals are half-open.

    positions   0 ............ n-2   n-1       n ....... n+k-1
    tokens      committed            pending   draft_tokens[0:k)
    KV          all layers hold      written during the round
"""

from dataclasses import dataclass, field, replace
from enum import Enum

from shared.ids import SessionId, TokenId
from shared.speculation.skip_set import NOTHING_SKIPPED, SkipSet

OFF = "off"
LAYERSKIP = "layerskip"
KANGAROO = "kangaroo"
SWIFT = "swift"
MIN_TEMPERATURE = 1e-5


class TokenSource(Enum):
    """Where an emitted token came from; values are the numbers on the wire."""

    PLAIN = 1
    ACCEPTED = 2
    RECOVERED = 3
    BONUS = 4


class FinishReason(Enum):
    """Why a session ended; values are the numbers on the wire."""

    STOP = 1
    LENGTH = 2
    CANCELLED = 3


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen. Draft and target share all of it, the seed included.

    temperature 0 is greedy. top_k 0, top_p 1, min_p 0 and repetition_penalty 1 are "no effect".
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    @property
    def is_greedy(self) -> bool:
        """Whether no noise is added; colder than this, scores would overflow float32."""
        return self.temperature < MIN_TEMPERATURE

    @property
    def needs_history(self) -> bool:
        """Whether a choice depends on the tokens before it beyond the model's own view."""
        return (
            self.repetition_penalty != 1.0
            or self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
        )

    @property
    def is_plain_argmax(self) -> bool:
        """Whether the choice is the argmax of the raw logits."""
        return self.is_greedy and not self.needs_history and not self.logit_bias


@dataclass(frozen=True, slots=True)
class StopParams:
    """When a session ends. `stop_token_ids` holds the model's own EOS ids too, unless ignored."""

    max_new_tokens: int
    stop_token_ids: frozenset[int] = frozenset()
    min_new_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What workers of a cell compare and clients may know of a model."""

    model_name: str
    model_fingerprint: str
    model_type: str
    dtype: str
    num_layers: int
    hidden_size: int
    vocab_size: int
    max_context_len: int
    eos_token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TreeBudget:
    """How far a draft may branch into a tree.

    max_nodes: draft tokens of a round, those of all branches.
    max_width: children of a node, the draft's own choice included.
    branch_threshold: only where its confidence is below this has a choice siblings.
    """

    max_nodes: int
    max_width: int = 2
    branch_threshold: float = 0.8


@dataclass(frozen=True, slots=True)
class Decision:
    """What one session does in one round. max_draft_len 0 is off.

    max_draft_len: the longest chain of drafts; of a tree its depth.
    stop_threshold: nothing is drafted behind a confidence below this; 0 never stops.
    tree: how far the draft may branch; None: not at all.
    by_chance: confidences are chances to be kept, and the threshold is for the chance that all
        drafts up to one are kept: their product.
    """

    method: str
    exit_layer: int
    max_draft_len: int
    stop_threshold: float = 0.0
    reason: str = "policy"
    tree: TreeBudget | None = None
    by_chance: bool = False

    @property
    def is_off(self) -> bool:
        """Whether the round is plain."""
        return self.method == OFF or self.max_draft_len == 0

    @property
    def max_nodes(self) -> int:
        """Most draft tokens of the round; with the pending token's each has a row."""
        return self.max_draft_len if self.tree is None else self.tree.max_nodes

    def cut(self, max_draft_len: int, max_nodes: int, reason: str) -> "Decision":
        """Return the same with no longer and no larger draft than this."""
        tree = self.tree
        if tree is not None:
            tree = replace(tree, max_nodes=min(tree.max_nodes, max_nodes))
        longest = min(self.max_draft_len, max_draft_len, max_nodes)
        return replace(self, max_draft_len=longest, reason=reason, tree=tree)

    def at_exit(self, exit_layer: int) -> "Decision":
        """Return the same at another exit layer."""
        if exit_layer == self.exit_layer:
            return self
        # `replace` would take twice as long, and this is done per session and round.
        return Decision(
            self.method,
            exit_layer,
            self.max_draft_len,
            self.stop_threshold,
            self.reason,
            self.tree,
            self.by_chance,
        )


PLAIN_DECISION = Decision(OFF, 0, 0)


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of pages [first_page, first_page + num_pages)."""

    first_page: int
    num_pages: int


@dataclass(frozen=True, slots=True)
class ShadowRead:
    """What one exit chose behind rows of a round though it did not draft them: evidence.

    Entry i belongs to row first_row + i, the choice for position n + first_row + i.

    candidates: what was ranked next to each choice, best first; empty where nobody asked.
    """

    exit_layer: int
    tokens: tuple[TokenId, ...]
    confidences: tuple[float, ...]
    first_row: int = 0
    candidates: tuple[tuple[TokenId, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class RoundTask:
    """One round as the verify worker orders it; handles, ids and parameters, no tensors.

    shadow_exits: exits below E whose choices behind all k + 1 rows are wanted as evidence.
    traceparent: W3C trace context of the round; empty when it is not traced.
    skip_set: what a layer-skipping draft leaves out; skip_version: which of its stream's sets.
    """

    session_id: SessionId
    round_index: int
    extents: tuple[Extent, ...]
    exit_slot: int
    pending_tokens: tuple[TokenId, ...]
    committed_len: int
    prompt_len: int
    decision: Decision
    sampling: SamplingParams
    stop_token_ids: frozenset[int] = frozenset()
    shadow_exits: tuple[int, ...] = ()
    traceparent: str = ""
    skip_set: SkipSet = NOTHING_SKIPPED
    skip_version: int = 0


@dataclass(frozen=True, slots=True)
class Draft:
    """The draft side's answer: k tokens, their confidences, k + 1 exit-state rows written.

    started_ns is a point of the machine's monotonic clock, which the workers of a cell share.
    parents: of a tree, see `shared.speculation.tree`; empty for a chain. A token that is not the
        draft's own choice has the confidence 0.
    """

    session_id: SessionId
    round_index: int
    draft_tokens: tuple[TokenId, ...]
    confidences: tuple[float, ...]
    exit_slot: int = 0
    queue_ns: int = 0
    started_ns: int = 0
    draft_ns: int = 0
    error: str = ""
    shadow: tuple[ShadowRead, ...] = ()
    parents: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of verification: `num_accepted` drafts, then `next_token`.

    path: the nodes of a tree that were accepted, from its root; empty for a chain, of which the
        first ones were.
    """

    num_accepted: int
    next_token: TokenId
    source: TokenSource
    path: tuple[int, ...] = ()


@dataclass(slots=True)
class SpeculationSummary:
    """Counts of what speculation did, for one session or a sum over sessions."""

    num_drafts: int = 0
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0
    num_plain_rounds: int = 0
    num_emitted_in_drafts: int = 0
    acceptance_histogram: list[int] = field(default_factory=list)

    def count(self, draft_len: int, num_accepted: int, num_emitted: int) -> None:
        """Count one round."""
        if draft_len == 0:
            self.num_plain_rounds += 1
            return
        self.num_drafts += 1
        self.num_draft_tokens += draft_len
        self.num_accepted_tokens += num_accepted
        self.num_emitted_in_drafts += num_emitted
        missing = num_accepted + 1 - len(self.acceptance_histogram)
        self.acceptance_histogram.extend([0] * missing)
        self.acceptance_histogram[num_accepted] += 1

    def add(self, other: "SpeculationSummary") -> None:
        """Add another summary to this one."""
        self.num_drafts += other.num_drafts
        self.num_draft_tokens += other.num_draft_tokens
        self.num_accepted_tokens += other.num_accepted_tokens
        self.num_plain_rounds += other.num_plain_rounds
        self.num_emitted_in_drafts += other.num_emitted_in_drafts
        missing = len(other.acceptance_histogram) - len(self.acceptance_histogram)
        self.acceptance_histogram.extend([0] * missing)
        for index, value in enumerate(other.acceptance_histogram):
            self.acceptance_histogram[index] += value

    @property
    def acceptance_rate(self) -> float:
        """Accepted / drafted; 0 when nothing was drafted."""
        return self.num_accepted_tokens / self.num_draft_tokens if self.num_draft_tokens else 0.0

    @property
    def mean_emitted_len(self) -> float:
        """Tokens emitted per round with a draft; 0 when nothing was drafted."""
        return self.num_emitted_in_drafts / self.num_drafts if self.num_drafts else 0.0
