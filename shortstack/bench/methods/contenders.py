"""The ways to draft that are compared, and what a client wishes for each. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from shared.speculation.vocabulary import KANGAROO, LAYERSKIP, SWIFT
from shortstack.request import PLAIN, Speculation

OFF, TREE, CHOSEN = "off", "layerskip-tree", "goodput"
# Draft tokens that a tree has room for, over those of its longest path.
TREE_FACTOR = 2
MIN_SKIPPABLE = 3


@dataclass(frozen=True, slots=True)
class Settings:
    """What the contenders draft with; where None, a method's own defaults hold.

    exit_layer, draft_len: of layerskip, chain and tree. kangaroo_len, swift_len: longest drafts.
    most: draft tokens that the cell allows in a round.
    """

    exit_layer: int
    draft_len: int
    kangaroo_len: int | None = None
    swift_len: int | None = None
    most: int = 16


def contenders_of(settings: Settings, num_layers: int, num_adapters: int) -> dict[str, Speculation]:
    """Return what to wish for each way that this model can draft, plain decoding first.

    All but the last are pinned: no load and no policy changes them.
    """
    exit_layer, draft_len = settings.exit_layer, settings.draft_len
    chain = Speculation(LAYERSKIP, exit_layer, draft_len, 0.0, policy="static", mode="force")
    tree_nodes = min(settings.most, TREE_FACTOR * draft_len)
    tree = Speculation(
        LAYERSKIP, exit_layer, draft_len, 0.0, policy="static", mode="force", tree_nodes=tree_nodes
    )
    found: dict[str, Speculation] = {OFF: PLAIN, LAYERSKIP: chain, TREE: tree}
    if num_adapters:
        found |= _own(KANGAROO, settings.kangaroo_len, settings.most)
    if num_layers >= MIN_SKIPPABLE:
        found |= _own(SWIFT, settings.swift_len, settings.most)
    return found | {CHOSEN: Speculation(policy="goodput")}


def _own(method: str, draft_len: int | None, most: int) -> dict[str, Speculation]:
    """Return a method's chains, and its trees: as long, or as half of a round's tokens are."""
    chain = Speculation(method, max_draft_len=draft_len, policy="static", mode="force")
    longest = min(draft_len or most, most // TREE_FACTOR)
    tree = replace(chain, max_draft_len=longest, tree_nodes=TREE_FACTOR * longest)
    return {method: chain, f"{method}-tree": tree}


def names_of(contenders: Mapping[str, Speculation], wished: str) -> list[str]:
    """Return the contenders named by comma, plain decoding always among them; all if none is.

    Raises:
        ValueError: one is unknown, or the model cannot draft so.
    """
    names = [part.strip() for part in wished.split(",") if part.strip()]
    if unknown := [name for name in names if name not in contenders]:
        raise ValueError(f"{', '.join(unknown)}: this model has {', '.join(contenders)}")
    return [name for name in contenders if not names or name in names or name == OFF]
