"""What is to be measured, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from shortstack.bench.prompts import BenchPrompt
from shortstack.bench.serve.loops import Extent
from shortstack.bench.serve.modes import AUTO_MODE, OFF_MODE, Mode
from shortstack.bench.serve.workload import LengthMix
from shortstack.bench.torch_peer import ModelChoice
from shortstack.errors import UsageError
from shortstack.plan import PREFIX, CellKind, StackConfig

# Requests of a point of a sweep, unless said otherwise: per client of a closed loop, and at least.
NUM_PER_CLIENT, MIN_REQUESTS = 4, 12

# What the stack is told; with sharing it does what it does on its own.
PREFIX_VARIABLES: dict[bool, dict[str, str]] = {
    True: {},
    False: {PREFIX + "VERIFY__PREFIX_SHARING": "off"},
}


class PeerName(StrEnum):
    """A server of others on the same weights."""

    HF_CONTINUOUS = "hf-continuous"
    HF = "hf"


@dataclass(frozen=True, slots=True)
class ServePlan:
    """A measurement. `environ` adds SHORTSTACK_ variables to the stack; is_tuned tries peers out.

    num_requests None leaves their number to `extent_of`. Unless shares_prefixes, nobody keeps
    what it has computed of a prompt: a load of few prompts, sent often, would find all of them.
    """

    choice: ModelChoice
    prompts: Sequence[BenchPrompt]
    modes: Sequence[Mode] = (AUTO_MODE, OFF_MODE)
    peers: Sequence[PeerName] = ()
    concurrency: Sequence[int] = ()
    rates: Sequence[float] = ()
    num_requests: int | None = None
    duration_s: float | None = None
    mix: LengthMix = field(default_factory=lambda: LengthMix(((32, 32), (64, 64), (128, 128))))
    repeats: int = 1
    seed: int = 0
    cell_kind: CellKind = CellKind.SPLIT
    ignore_eos: bool = False
    is_tuned: bool = True
    shares_prefixes: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)

    def extent_of(self, concurrency: int) -> Extent:
        """Return how much is sent with so many clients; fewer requests than two each never stand.

        Raises:
            UsageError: the number that was asked for is too small.
        """
        if self.duration_s is not None:
            return Extent(self.num_requests, self.duration_s)
        if self.num_requests is None:
            return Extent(max(MIN_REQUESTS, NUM_PER_CLIENT * concurrency))
        if self.num_requests < 2 * concurrency:
            raise UsageError(
                f"--requests {self.num_requests} is too few for {concurrency} clients: the load "
                f"never stands; give at least {2 * concurrency}, or --duration"
            )
        return Extent(self.num_requests)

    def stack_config(self) -> StackConfig:
        """Return the stack that is measured."""
        return StackConfig(
            model=self.choice.model_dir,
            cell_kind=self.cell_kind,
            dtype=self.choice.dtype,
            device=self.choice.device,
            num_threads=self.choice.num_threads,
            draft_vocab=self.choice.draft_vocab,
            exit_adapters=self.choice.exit_adapters,
            environ=(PREFIX_VARIABLES[self.shares_prefixes] | dict(self.environ)),
        )

    @property
    def max_concurrency(self) -> int:
        """Most requests under way in a closed loop."""
        return max(self.concurrency, default=0)

    @property
    def longest_sequence(self) -> int:
        """Tokens of the longest prompt with the longest answer."""
        return max(len(prompt.token_ids) for prompt in self.prompts) + self.mix.longest
