"""Which token ids the columns of some logits stand for, where those are not the whole vocabulary.

    column     0    1    2    ...   U-1
    token id   2    5    17   ...   31990      ascending, so the lowest of tied columns is the
                                               lowest of tied ids

Scoring U columns instead of spreading them over V ids filled up with -inf gives the same choice,
and spares noise, sorting and sums over ids that cannot be chosen.
"""

from collections.abc import Sequence

import torch

from shared.ids import TokenId
from shared.speculation.draft_vocab import DraftVocab


class TokenSubset:
    """An ascending choice of token ids, in both directions. U ids of a vocabulary of V."""

    def __init__(self, token_ids: Sequence[int], vocab_size: int, device: torch.device) -> None:
        self.token_ids = tuple(map(TokenId, token_ids))
        self.ids_U = torch.tensor(self.token_ids, dtype=torch.int64, device=device)
        self._column_of_V = torch.full((vocab_size,), -1, dtype=torch.int64, device=device)
        self._column_of_V[self.ids_U] = torch.arange(len(self.token_ids), device=device)

    def __len__(self) -> int:
        """Return U."""
        return len(self.token_ids)

    def columns_of(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the columns of those int64 ids that have one, and a mask that says which do."""
        columns = self._column_of_V[ids]
        is_inside = columns >= 0
        return columns[is_inside], is_inside


def subset_of(vocab: DraftVocab | None, device: torch.device) -> TokenSubset | None:
    """Return the columns of a draft vocabulary's logits; None where drafts have all ids."""
    return None if vocab is None else TokenSubset(vocab.token_ids, vocab.vocab_size, device)
