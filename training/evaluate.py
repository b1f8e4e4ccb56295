"""How good every exit of a model is as a drafter: agreement with the last layer, cross-entropy.

One teacher-forced pass over held-out text: an exit agrees where its greedy choice is that of the
last layer. Knows nothing of drafting itself or of speed.

    python -m training.evaluate --model DIR --data DIR [--windows 64] [--row-len 256] [--json FILE]
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from training.data import KINDS, Corpus, corpus_of, held_out_windows, read_documents
from training.errors import TrainingError, run_command
from training.export import load_model
from training.layerskip import HEAD_ROWS, Batch, exit_states
from training.model import Llama
from training.tokenizer import encode, end_id_of, load_tokenizer


@dataclass(frozen=True)
class ExitScores:
    """Scores of exits 1 to L, in this order, over one text.

    Attributes:
        agreement: share of positions whose greedy token is that of exit L; the last one is 1.
        cross_entropy: mean, in nats per token.
        num_tokens: positions scored.
    """

    agreement: list[float]
    cross_entropy: list[float]
    num_tokens: int


@torch.no_grad()
def score_exits(model: Llama, batches: Iterable[Batch]) -> ExitScores:
    """Score every exit over the batches."""
    num_layers = model.shape.num_layers
    hits, losses = torch.zeros(num_layers), torch.zeros(num_layers)
    num_tokens = 0
    for batch in batches:
        states = exit_states(model, batch, range(num_layers))
        stacked_LRD = torch.stack([states[layer].flatten(0, 1) for layer in range(num_layers)])
        targets_R = batch.targets_BT.flatten()
        for first in range(0, len(targets_R), HEAD_ROWS):
            rows = slice(first, first + HEAD_ROWS)
            more_hits, more_losses = _score_rows(model, stacked_LRD[:, rows], targets_R[rows])
            hits, losses = hits + more_hits, losses + more_losses
        num_tokens += len(targets_R)
    return ExitScores((hits / num_tokens).tolist(), (losses / num_tokens).tolist(), num_tokens)


def _score_rows(model: Llama, states_LRD: Tensor, targets_R: Tensor) -> tuple[Tensor, Tensor]:
    """Agreeing rows and summed cross-entropy by exit."""
    choices, losses = [], []
    for states_RD in states_LRD:
        logits_RV = model.logits(states_RD)
        choices.append(logits_RV.argmax(-1))
        losses.append(F.cross_entropy(logits_RV, targets_R, reduction="sum"))
    hits = torch.stack([(choice == choices[-1]).sum() for choice in choices])
    return hits.float(), torch.stack(losses)


def score_kinds(
    model: Llama, corpora: Mapping[str, Corpus], num_windows: int, row_len: int
) -> dict[str, ExitScores]:
    """Score every exit on each kind of text."""
    return {
        kind: score_exits(model, held_out_windows(corpus, num_windows, row_len))
        for kind, corpus in corpora.items()
    }


def held_out_corpora(model_dir: Path, data: Path, max_bytes: int) -> dict[str, Corpus]:
    """Held-out text of each kind in the tokens of the model."""
    tokenizer = load_tokenizer(model_dir / "tokenizer.json")
    end_id = end_id_of(tokenizer)
    texts = {kind: read_documents(data, kind, "valid", max_bytes) for kind in KINDS}
    return {kind: corpus_of(encode(tokenizer, text), end_id) for kind, text in texts.items()}


def evaluate(model_dir: Path, data: Path, num_windows: int, row_len: int) -> dict[str, ExitScores]:
    """Score a model directory, its stored weights taken to float32."""
    model = load_model(model_dir)
    if not 1 <= row_len <= model.shape.max_positions:
        raise TrainingError(f"--row-len must lie in [1, {model.shape.max_positions}]")
    corpora = held_out_corpora(model_dir, data, max_bytes=4_000_000)
    return score_kinds(model, corpora, num_windows, row_len)


def main() -> None:
    """Read the arguments, score, print JSON."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    parser.add_argument("--data", type=Path, required=True, help="directory of the texts")
    parser.add_argument("--windows", type=int, default=64, help="windows per kind")
    parser.add_argument("--row-len", type=int, default=256, help="tokens per window")
    parser.add_argument("--json", type=Path, help="also write the scores to this file")
    args = parser.parse_args()
    scores = evaluate(args.model, args.data, args.windows, args.row_len)
    text = json.dumps({kind: asdict(score) for kind, score in scores.items()}, indent=2)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    run_command(main)
