"""The choice of a token: warping, noise, confidence.

    token = argmax_v( warp(logits)[v] + gumbel(seed, position, v) )

Draft and target share the noise (see `noise`), so the choice at a position depends on neither
worker, batch nor method. Temperature 0 adds no noise; ties go to the lowest id. `position` is the
index, prompt included, of the token being chosen.

Logits may hold the columns of a `TokenSubset` alone, as those of drafts may. Then V counts these
columns, every rule and all noise act on the token ids behind them, and the choice is what it would
be if every other id had the logit -inf.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import torch

from shared.ids import TokenId
from shared.model.noise import mix_key, noise_of
from shared.model.token_subset import TokenSubset
from shared.speculation.vocabulary import SamplingParams

NOISE_CHUNK = 1 << 15  # numbers of noise made at a time: what of 8 bytes each stays in the cache


@dataclass(frozen=True, slots=True)
class RowChoice:
    """One row to choose for: its parameters, the position being chosen, the tokens before it.

    `history` is needed only where a penalty is on: all tokens [0, position); those from
    `prompt_len` on were generated. `num_candidates` of the next best tokens are wanted as well.
    `wants_chance`: what is told of a draft's choice is to be the chance that the full model agrees.
    """

    params: SamplingParams
    position: int
    prompt_len: int = 0
    history: Sequence[TokenId] = ()
    num_candidates: int = 0
    wants_chance: bool = False


@dataclass(slots=True)
class Choices:
    """Chosen ids and their confidences, row by row.

    Confidence under greedy is the raw softmax probability of the chosen id; under sampling
    1 / (1 + exp(-gap)) of the two best perturbed scores (the raw probability says nothing about
    agreement under shared noise), 0 where every token is ruled out. `gaps` are the gaps between the
    two best scores, and `best_two` the ids of these. `candidates` are the ids ranked next to the
    chosen one by the very scores that chose it, best first: a draw without replacement where noise
    was added. Ruled out ones are none. `chances` are told by `shared.model.chances` alone.
    """

    tokens: list[TokenId] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    best_two: list[tuple[TokenId, TokenId]] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)
    candidates: list[tuple[TokenId, ...]] = field(default_factory=list)


def choose(
    logits_RV: torch.Tensor,
    rows: Sequence[RowChoice],
    *,
    subset: TokenSubset | None = None,
    with_confidences: bool = False,
    with_gaps: bool = False,
) -> Choices:
    """Choose a token for every row of float32 logits; the logits are left as they are.

    Confidences, gaps with the best two, and candidates are sure to be there only where they are
    asked for. With a subset the raw probability of a confidence is that among its tokens.
    """
    if all(row.params.is_plain_argmax for row in rows):
        choices = _choose_greedy(logits_RV, rows, with_confidences, with_gaps)
    else:
        choices = _choose_warped(logits_RV, rows, subset, with_confidences, with_gaps)
    if subset is not None:
        ids = subset.token_ids
        choices.tokens = [ids[column] for column in choices.tokens]
        choices.best_two = [(ids[first], ids[second]) for first, second in choices.best_two]
        choices.candidates = [tuple(ids[each] for each in row) for row in choices.candidates]
    return choices


def _alike(rows: Sequence[RowChoice]) -> Iterator[tuple[int, int]]:
    """Yield the half-open ranges of neighbours that are warped alike: all but their seeds equal."""
    end = 0
    for _, alike in groupby(rows, key=lambda row: replace(row.params, seed=0)):
        start, end = end, end + len(list(alike))
        yield start, end


def _choose_greedy(
    logits_RV: torch.Tensor, rows: Sequence[RowChoice], with_confidences: bool, with_gaps: bool
) -> Choices:
    choices = Choices()
    if with_gaps:
        _note_gaps(logits_RV, choices)
    if with_gaps and all(choices.gaps):
        choices.tokens = [first for first, _ in choices.best_two]
    else:
        # Among equals the best is the lowest id, which need not come first of two.
        choices.tokens = logits_RV.argmax(-1).tolist()
    choices.candidates = _candidates(logits_RV, rows, choices.tokens)
    if with_confidences:
        choices.confidences = logits_RV.softmax(-1).amax(-1).tolist()
    return choices


def _note_gaps(scores_RV: torch.Tensor, choices: Choices) -> None:
    """Note gaps, and the columns that they lie between."""
    top = scores_RV.topk(2, -1)
    choices.gaps = [first - second for first, second in top.values.tolist()]
    choices.best_two = [(first, second) for first, second in top.indices.tolist()]


def _candidates(
    scores_RV: torch.Tensor, rows: Sequence[RowChoice], columns: Sequence[int]
) -> list[tuple[TokenId, ...]]:
    """Return the columns ranked next to the chosen one, as many as each row wants; [] for none."""
    most = max(row.num_candidates for row in rows)
    if not most:
        return []
    top = scores_RV.topk(min(most + 1, scores_RV.shape[-1]), -1)
    found = []
    for row, chosen, values, ranked in zip(
        rows, columns, top.values.tolist(), top.indices.tolist(), strict=True
    ):
        ranks = zip(ranked, values, strict=True)
        # Among equals the best is the lowest id, which need not come first here.
        kept = [TokenId(each) for each, score in ranks if each != chosen and score > -math.inf]
        found.append(tuple(kept[: row.num_candidates]))
    return found


def _choose_warped(
    logits_RV: torch.Tensor,
    rows: Sequence[RowChoice],
    subset: TokenSubset | None,
    with_confidences: bool,
    with_gaps: bool,
) -> Choices:
    """Choose for rows of any parameters; `tokens` gets columns.

    Only warping goes by groups: the rest would take 16 times as many small operations for 16
    sessions with a seed each.
    """
    scores_RV = torch.cat(
        [warp(logits_RV[start:end], rows[start:end], subset) for start, end in _alike(rows)]
    )
    sampled = [index for index, row in enumerate(rows) if not row.params.is_greedy]
    _add_noise(scores_RV, rows, sampled, _ids_of(logits_RV, subset))
    columns_R = scores_RV.argmax(-1)
    choices = Choices(columns_R.tolist())
    choices.candidates = _candidates(scores_RV, rows, choices.tokens)
    if with_confidences or with_gaps:
        _note_gaps(scores_RV, choices)
    if with_confidences:
        choices.confidences = [_confidence(gap) for gap in choices.gaps]
        if len(sampled) < len(rows):
            raw_R1 = logits_RV.softmax(-1).gather(-1, columns_R.unsqueeze(-1))
            for index in set(range(len(rows))).difference(sampled):
                choices.confidences[index] = float(raw_R1[index])
    return choices


def _add_noise(
    scores_RV: torch.Tensor, rows: Sequence[RowChoice], sampled: list[int], ids_V: torch.Tensor
) -> None:
    """Add each sampled row's noise in place, as many rows at a time as keep memory small."""
    step = NOISE_CHUNK // len(ids_V) or 1
    for start in range(0, len(sampled), step):
        chunk = sampled[start : start + step]
        keys = [mix_key(rows[index].params.seed, rows[index].position) for index in chunk]
        # Exits that are read beside each other choose for one position, with one noise.
        places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
        noise_KV = noise_of(list(places), ids_V)
        if len(places) < len(keys):
            picked = torch.tensor([places[key] for key in keys], device=ids_V.device)
            noise_KV = noise_KV.index_select(0, picked)
        scores_RV.index_add_(0, torch.tensor(chunk, device=ids_V.device), noise_KV)


def _confidence(gap: float) -> float:
    """Return the sigmoid of a gap; 0 where it is no number, as all scores are -inf."""
    return 0.0 if math.isnan(gap) else 1.0 / (1.0 + math.exp(-min(gap, 700.0)))


def _ids_of(logits_RV: torch.Tensor, subset: TokenSubset | None) -> torch.Tensor:
    """Return the token id of every column."""
    if subset is not None:
        return subset.ids_U
    return torch.arange(logits_RV.shape[-1], device=logits_RV.device)


def warp(
    logits_RV: torch.Tensor, rows: Sequence[RowChoice], subset: TokenSubset | None = None
) -> torch.Tensor:
    """Apply bias, penalties, temperature, top-k, top-p and min-p, in this order.

    Args:
        logits_RV: float32 rows.
        rows: one entry per row; they share their parameters, seeds apart, not their histories.
        subset: the ids of the columns, where those are not the whole vocabulary.

    Returns:
        Scores [R, V]; a token that was dropped has -inf. Left unnormalised: an argmax of scores
        plus noise is the same with any constant added to a row.
    """
    params = rows[0].params
    scores_RV = logits_RV
    if params.logit_bias:
        scores_RV = _add_bias(scores_RV, params, subset)
    if params.needs_history:
        penalized = [_penalize(s, row, subset) for s, row in zip(scores_RV, rows, strict=True)]
        scores_RV = torch.stack(penalized)
    if params.is_greedy:
        return scores_RV
    scores_RV = scores_RV / params.temperature
    if params.top_k:
        scores_RV = _keep_top_k(scores_RV, params.top_k)
    if params.top_p < 1.0:
        scores_RV = _keep_top_p(scores_RV, params.top_p)
    if params.min_p > 0.0:
        floor = scores_RV.max(-1, keepdim=True).values + math.log(params.min_p)
        scores_RV = scores_RV.masked_fill(scores_RV < floor, -math.inf)
    return scores_RV


def _add_bias(
    scores_RV: torch.Tensor, params: SamplingParams, subset: TokenSubset | None
) -> torch.Tensor:
    columns = torch.tensor([token for token, _ in params.logit_bias], device=scores_RV.device)
    bias = torch.tensor([bias for _, bias in params.logit_bias], device=scores_RV.device)
    if subset is not None:
        columns, is_inside = subset.columns_of(columns)
        bias = bias[is_inside]
    scores_RV = scores_RV.clone()
    scores_RV[:, columns] += bias
    return scores_RV


def _penalize(scores_V: torch.Tensor, row: RowChoice, subset: TokenSubset | None) -> torch.Tensor:
    """Apply repetition (Keskar et al. 2019, arXiv:1909.05858), presence and frequency penalties."""
    params = row.params
    scores_V = scores_V.clone()
    if params.repetition_penalty != 1.0 and row.history:
        seen = _columns_of(sorted(set(row.history)), subset, scores_V.device)
        values = scores_V[seen]
        factor = params.repetition_penalty
        scores_V[seen] = torch.where(values > 0, values / factor, values * factor)
    generated = row.history[row.prompt_len :]
    if generated and (params.presence_penalty or params.frequency_penalty):
        columns = _columns_of(generated, subset, scores_V.device)
        counts_V = torch.bincount(columns, minlength=scores_V.shape[0]).to(scores_V.dtype)
        scores_V -= params.frequency_penalty * counts_V
        scores_V -= params.presence_penalty * (counts_V > 0).to(scores_V.dtype)
    return scores_V


def _columns_of(
    tokens: Sequence[TokenId], subset: TokenSubset | None, device: torch.device
) -> torch.Tensor:
    """Return the columns of tokens; those without one are left out."""
    ids = torch.tensor(list(tokens), device=device)
    return ids if subset is None else subset.columns_of(ids)[0]


def _keep_top_k(scores_RV: torch.Tensor, top_k: int) -> torch.Tensor:
    kth = scores_RV.topk(min(top_k, scores_RV.shape[-1]), -1).values[:, -1:]
    return scores_RV.masked_fill(scores_RV < kth, -math.inf)


def _keep_top_p(scores_RV: torch.Tensor, top_p: float) -> torch.Tensor:
    """Keep the smallest set whose probability reaches top_p, the likeliest token always."""
    sorted_scores, order = scores_RV.sort(dim=-1, descending=True, stable=True)
    probabilities = sorted_scores.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    is_dropped = torch.zeros_like(scores_RV, dtype=torch.bool)
    is_dropped.scatter_(-1, order, before >= top_p)
    return scores_RV.masked_fill(is_dropped, -math.inf)


def logprobs_of(
    logits_RV: torch.Tensor, tokens: Sequence[TokenId], num_top: int
) -> list[tuple[float, list[tuple[int, float]]]]:
    """Return each token's raw log probability and the `num_top` likeliest ids with theirs."""
    logprobs_RV = logits_RV.log_softmax(-1)
    found = []
    for logprobs_V, token in zip(logprobs_RV, tokens, strict=True):
        values, ids = logprobs_V.topk(min(num_top, logprobs_V.shape[0]))
        top = list(zip(ids.tolist(), values.tolist(), strict=True))
        found.append((float(logprobs_V[token]), top))
    return found
