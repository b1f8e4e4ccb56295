"""The recorder: plain decoding, then every exit read along the text. Imported late: torch.

All runs in this process, one session. The exits choose with the text's own sampling parameters,
seed and positions, so a match says whether a draft from that exit would have been kept there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from shared.control.replay.texts import RecordedText
from shared.ids import TokenId
from shared.model.compute_threads import ComputeThreads
from shared.model.config import ModelConfig, read_config
from shared.model.exit_reader import ExitReader
from shared.model.layer_stack import LayerStack, Progress, no_progress
from shared.model.plain import PlainDecoder, PlainResult
from shared.model.sampling import Choices
from shared.speculation.draft_vocab import AUTO
from shared.speculation.tape import ExitTrack, Tape
from shared.speculation.vocabulary import FinishReason, SamplingParams, StopParams
from shared.telemetry.machine import describe_machine
from shortstack.bench.control.tape_file import Recording, TapeHeader
from shortstack.bench.prompts import BenchPrompt
from shortstack.errors import UsageError

# Positions of the prompt that are read too: what a policy may learn from before the first round.
NUM_PROMPT_POSITIONS = 32


@dataclass(frozen=True, slots=True)
class RecordPlan:
    """What to record. exits empty: all below the last layer; num_threads 0: as workers have."""

    model_dir: Path
    exits: tuple[int, ...]
    max_new_tokens: int
    sampling: SamplingParams
    dtype: str = "float32"
    num_threads: int = 0

    def exits_of(self, config: ModelConfig) -> tuple[int, ...]:
        """Return the exits to read.

        Raises:
            UsageError: the model has none, or not these.
        """
        last = config.num_layers - 1
        if last < 1:
            raise UsageError(f"{self.model_dir} has 1 layer: an early exit needs 2 or more")
        if wrong := [e for e in self.exits if not 1 <= e <= last]:
            raise UsageError(f"--exits: {wrong[0]} must lie in [1, {last}] for this model")
        return self.exits or tuple(range(1, last + 1))


def load(plan: RecordPlan, progress: Progress = no_progress) -> LayerStack:
    """Load the whole model with both heads, as its workers would.

    Raises:
        BadModel: the directory cannot be served.
    """
    config = read_config(plan.model_dir, plan.dtype)
    stack = LayerStack(
        config,
        progress=progress,
        draft_vocab=config.find_draft_vocab(AUTO),
        exit_adapters=config.find_exit_adapters(AUTO),
        acceptance_heads=config.find_acceptance_heads(AUTO),
    )
    stack.threads = ComputeThreads.for_model(config, plan.num_threads)
    return stack


def record(
    stack: LayerStack,
    plan: RecordPlan,
    prompts: Sequence[BenchPrompt],
    on_prompt: Callable[[], None] = lambda: None,
) -> Iterator[Recording]:
    """Yield the recording of every prompt whose text has more than the prefill's token."""
    config = stack.config
    exits = plan.exits_of(config)
    machine = asdict(describe_machine())
    longest = max(len(prompt.token_ids) for prompt in prompts) + plan.max_new_tokens
    decoder = PlainDecoder(config.path, stack=stack)
    reader = ExitReader(stack, min(longest, config.max_context_len))
    for prompt in prompts:
        num_tokens = min(plan.max_new_tokens, config.max_context_len - len(prompt.token_ids))
        stop = StopParams(num_tokens, frozenset(config.eos_token_ids))
        made = decoder.generate(list(prompt.token_ids), plan.sampling, stop, with_gaps=False)
        on_prompt()
        if len(made.token_ids) < 2:
            continue
        text, num_near_ties = _read(reader, exits, prompt, made, plan.sampling, num_tokens)
        yield Recording(
            TapeHeader(
                fingerprint=config.fingerprint,
                model=config.path.name,
                dtype=plan.dtype,
                sampling=asdict(plan.sampling),
                seed=plan.sampling.seed,
                exits=exits,
                num_layers=config.num_layers,
                task=prompt.kind,
                prompt_id=prompt.prompt_id,
                prompt_len=len(prompt.token_ids),
                num_unused=text.tape.num_unused,
                num_near_ties=num_near_ties,
                machine=machine,
            ),
            text,
        )


def _read(
    reader: ExitReader,
    exits: Sequence[int],
    prompt: BenchPrompt,
    made: PlainResult,
    sampling: SamplingParams,
    max_new_tokens: int,
) -> tuple[RecordedText, int]:
    """Return the text and its near ties.

    The text's first token is the prefill's own and no round's; it is the last of those that the
    prompt's rows choose, where every exit is compared with the last layer.
    """
    prompt_len = len(prompt.token_ids)
    tokens = [TokenId(token) for token in (*prompt.token_ids, *made.token_ids)]
    start = max(1, prompt_len + 1 - NUM_PROMPT_POSITIONS)
    choices = reader.read(tokens, start, sampling, prompt_len, exits)
    last = choices.pop(max(choices))
    num_prompt = prompt_len + 1 - start
    text = tokens[prompt_len + 1 :]
    is_stopped = made.finish_reason is FinishReason.STOP
    num_unused = max_new_tokens - len(made.token_ids) if is_stopped else 0
    tape = Tape(len(text), _tracks(choices, text, num_prompt, None), num_unused)
    own = _tracks(choices, last.tokens[:num_prompt], 0, num_prompt)
    num_near_ties = sum(a != b for a, b in zip(last.tokens[num_prompt:], text, strict=True))
    return RecordedText(prompt.prompt_id, prompt.kind, tape, own), num_near_ties


def _tracks(
    choices: Mapping[int, Choices], tokens: Sequence[TokenId], start: int, end: int | None
) -> dict[int, ExitTrack]:
    """Compare choices [start, end) of every exit with tokens."""
    return {
        exit_layer: ExitTrack(
            [a == b for a, b in zip(each.tokens[start:end], tokens, strict=True)],
            each.confidences[start:end],
            each.chances[start:end],
        )
        for exit_layer, each in choices.items()
    }
