"""The model's own text, and what every exit made of it. Imported late: torch.

All runs in this process, one session, greedy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.ids import TokenId
from shared.model.exit_reader import ExitReader
from shared.model.layer_stack import LayerStack
from shared.model.plain import PlainDecoder, PlainResult
from shared.model.sampling import Choices
from shared.speculation.tape import ExitTrack, Tape
from shared.speculation.vocabulary import FinishReason, SamplingParams, StopParams
from shortstack.bench.prompts import BenchPrompt


@dataclass(frozen=True, slots=True)
class Reading:
    """One prompt's text: its tape, and how it was decoded.

    middle: position halfway through what was generated.
    num_near_ties: places where the pass over the text chose another token at the last layer.
    """

    kind: str
    middle: int
    tape: Tape
    num_near_ties: int
    decode_ns: int


def read_texts(
    stack: LayerStack,
    prompts: Sequence[BenchPrompt],
    max_new_tokens: int,
    on_prompt: Callable[[], None] = lambda: None,
    *,
    through_adapters: bool = False,
) -> list[Reading]:
    """Let the model continue every prompt, and read all exits along the text it made.

    through_adapters: read those exits that have a draft adapter through it instead.
    """
    max_context_len = stack.config.max_context_len
    longest = max(len(prompt.token_ids) for prompt in prompts) + max_new_tokens
    decoder = PlainDecoder(stack.config.path, stack=stack)
    longest = min(longest, max_context_len)
    reader = ExitReader(stack, longest, through_adapters=through_adapters)
    readings = []
    for prompt in prompts:
        num_tokens = min(max_new_tokens, max_context_len - len(prompt.token_ids))
        stop = StopParams(num_tokens, frozenset(stack.config.eos_token_ids))
        text = decoder.generate(list(prompt.token_ids), SamplingParams(), stop, with_gaps=False)
        readings.append(_read(reader, prompt, text, num_tokens))
        on_prompt()
    return readings


def _read(reader: ExitReader, prompt: BenchPrompt, text: PlainResult, num_tokens: int) -> Reading:
    """Read the exits at all tokens of a text but the first, which is the prefill's own."""
    tokens = [TokenId(token) for token in (*prompt.token_ids, *text.token_ids)]
    start = len(prompt.token_ids) + 1
    choices_by_exit = reader.read(tokens, start)
    last_layer = choices_by_exit.pop(max(choices_by_exit))
    tracks = {e: _track(choices, tokens[start:]) for e, choices in choices_by_exit.items()}
    is_stopped = text.finish_reason is FinishReason.STOP
    num_unused = num_tokens - len(text.token_ids) if is_stopped else 0
    tape = Tape(len(tokens) - start, tracks, num_unused)
    num_near_ties = _track(last_layer, tokens[start:]).matches.count(False)
    middle = (start + len(tokens)) // 2
    return Reading(prompt.kind, middle, tape, num_near_ties, text.decode_ns)


def _track(choices: Choices, tokens: Sequence[TokenId]) -> ExitTrack:
    matches = [chosen == token for chosen, token in zip(choices.tokens, tokens, strict=True)]
    return ExitTrack(matches, choices.confidences)
