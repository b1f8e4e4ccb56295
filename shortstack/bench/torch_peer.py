"""A child process that decodes one prompt at a time with torch: order, answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.speculation.cost_model import CostTable
from shared.speculation.draft_vocab import AUTO
from shortstack.bench.torch_messages import (
    Answer,
    CostsOrder,
    Order,
    decode_answer,
    decode_costs,
    encode_order,
)
from shortstack.bench.torch_process import TorchProcess


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The checkpoint and how every peer runs it; num_threads 0 is all cores.

    draft_vocab and exit_adapters are the settings of the workers, and of the costs measured.
    """

    model_dir: Path
    dtype: str = "float32"
    device: str = "cpu"
    num_threads: int = 0
    draft_vocab: str = AUTO
    exit_adapters: str = AUTO

    def words(self) -> tuple[object, ...]:
        """Return the arguments by which a child is told."""
        return (
            *("--model", self.model_dir.resolve()),
            *("--dtype", self.dtype),
            *("--device", self.device),
            *("--num-threads", self.num_threads),
        )


class TorchPeer(TorchProcess):
    """One child, `plain` or `hf`; use it as an async context."""

    def __init__(
        self, decoder: str, choice: ModelChoice, environment: Mapping[str, str] | None = None
    ) -> None:
        words = (decoder, *choice.words())
        super().__init__(decoder, "shortstack.bench.torch_child", words, environment)

    async def generate(self, order: Order) -> Answer:
        """Continue a prompt.

        Raises:
            CommandError: the child ended; the last lines of its log are in the text.
        """
        self.write(encode_order(order))
        return decode_answer(await self.read())

    async def costs(self, order: CostsOrder) -> CostTable:
        """Measure the costs of the model's parts; `plain` children only."""
        self.write(encode_order(order))
        return decode_costs(await self.read())
