"""Options that several commands share, and how they become values.

A command lists the types below as its parameters; typer reads range and help from them.
"""

import secrets
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from shared.control.fair_queue import Priority
from shared.control.policies.static import NAME as STATIC
from shared.speculation.vocabulary import OFF, SamplingParams
from shortstack.errors import UsageError
from shortstack.plan import CellKind
from shortstack.request import Limits, Speculation

# Where to run.
Model = Annotated[
    Path | None, typer.Option(help="Model directory of the local stack; default: the bundled one.")
]
Target = Annotated[
    str | None, typer.Option(help="Gateway to use, host:port or unix:/path.", metavar="TARGET")
]
Cell = Annotated[CellKind, typer.Option(help="Two workers, one process, or no speculation.")]
DType = Annotated[str | None, typer.Option(help="float32 or bfloat16.")]
Device = Annotated[str | None, typer.Option(help="cpu or a CUDA device such as cuda:0.")]
NumThreads = Annotated[
    int | None,
    typer.Option(min=0, help="Compute threads per worker; 0: as many as each pass is worth."),
]
DraftVocab = Annotated[
    str | None,
    typer.Option(help="Tokens that drafts are scored by: auto, off, or a file.", metavar="VOCAB"),
]
ExitAdapters = Annotated[
    str | None,
    typer.Option(help="What drafts read exits through: auto, off, or a file.", metavar="ADAPTERS"),
]
AcceptanceHeads = Annotated[
    str | None,
    typer.Option(
        help="What tells how likely drafts are to be kept: auto, off, or a file.", metavar="HEADS"
    ),
]
DraftAdapters = Annotated[
    str | None,
    typer.Option(
        help="What method kangaroo drafts with: auto, off, or a path.", metavar="ADAPTERS"
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(help="API key; better by SHORTSTACK_API_KEY_FILE, as others may list processes."),
]
Ca = Annotated[
    str | None,
    typer.Option(help="TLS: PEM file of the gateway's CA, or `system`.", metavar="FILE"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class PriorityName(Enum):
    """Priorities as they are typed."""

    NORMAL = "normal"
    LOW = "low"

    @property
    def priority(self) -> Priority:
        """The value."""
        return Priority[self.name]


# On whose account, and how urgently.
Tenant = Annotated[str, typer.Option(help="Who asks; tenants share the service by tokens.")]
Urgency = Annotated[PriorityName, typer.Option(help="Low waits until nobody else does, or long.")]

Task = Annotated[str, typer.Option(help="Kind of text; drafting learns from its like.")]

# How tokens are chosen.
Temperature = Annotated[float, typer.Option(min=0, max=100, help="0 is greedy.")]
TopP = Annotated[float, typer.Option(min=0, max=1, help="Smallest set of this probability.")]
TopK = Annotated[int, typer.Option(min=0, help="Most likely tokens to choose from; 0: all.")]
MinP = Annotated[float, typer.Option(min=0, max=1, help="Least share of the best's probability.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Equal seeds give equal texts.")]
RepetitionPenalty = Annotated[float, typer.Option(min=0, help="1 is none.")]
PresencePenalty = Annotated[float, typer.Option(min=-2, max=2, help="Once per token seen.")]
FrequencyPenalty = Annotated[float, typer.Option(min=-2, max=2, help="For each time seen.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="Most tokens to emit.")]
Stop = Annotated[list[str] | None, typer.Option(help="End before this text; repeatable.")]

# How to speculate.
Method = Annotated[
    str | None, typer.Option(help="layerskip, kangaroo, swift, or off for plain decoding.")
]
ExitLayer = Annotated[int | None, typer.Option(min=1, help="The draft runs layers [0, E).")]
DraftLen = Annotated[int | None, typer.Option(min=0, help="Most drafts per round; 0: plain.")]
StopThreshold = Annotated[
    float | None, typer.Option(min=0, max=1, help="Drafting stops below this confidence.")
]
TreeNodes = Annotated[
    int | None, typer.Option(min=1, help="Drafts branch: most draft tokens per round; static only.")
]
TreeWidth = Annotated[
    int | None, typer.Option(min=2, help="Most draft tokens side by side; needs --tree-nodes.")
]
TreeThreshold = Annotated[
    float | None, typer.Option(min=0, max=1, help="Drafts surer than this do not branch.")
]
Policy = Annotated[
    str, typer.Option(help="What decides each round: goodput, static, heuristic, del.")
]


def make_sampling(
    temperature: float,
    *,
    seed: int | None,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
) -> SamplingParams:
    """Return sampling parameters; without a seed one is drawn, as sampling always has one."""
    return SamplingParams(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        seed=secrets.randbits(63) if seed is None else seed,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
    )


def make_limits(max_new_tokens: int, stop: list[str] | None) -> Limits:
    """Return the limits of a request."""
    return Limits(max_new_tokens=max_new_tokens, stop_strings=tuple(stop or ()))


def make_speculation(
    method: str | None,
    exit_layer: int | None,
    draft_len: int | None,
    stop_threshold: float | None,
    policy: str = "",
    *,
    tree_nodes: int | None = None,
    tree_width: int | None = None,
    tree_threshold: float | None = None,
) -> Speculation:
    """Return a request's wishes; what was not given is left to the cell.

    Raises:
        UsageError: drafts cannot branch as given.
    """
    if tree_nodes is None and (tree_width is not None or tree_threshold is not None):
        raise UsageError("--tree-width and --tree-threshold need --tree-nodes: chains have neither")
    if tree_nodes is not None and method == OFF:
        raise UsageError(f"--method {OFF} drafts nothing: leave --tree-nodes out")
    if tree_nodes is not None and policy not in ("", STATIC):
        raise UsageError(
            f"--policy {policy} takes no tree: with --tree-nodes use {STATIC} or leave --policy out"
        )
    return Speculation(
        method=method or "",
        exit_layer=exit_layer,
        max_draft_len=draft_len,
        stop_threshold=stop_threshold,
        policy=policy,
        tree_nodes=tree_nodes,
        tree_width=tree_width,
        tree_threshold=tree_threshold,
    )
