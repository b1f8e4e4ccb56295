"""The live proof: a real stack, through its gateway, under static settings and under a policy.

Every prompt is decoded by all contenders before the next prompt's turn comes, in an order drawn
anew each time, so that all meet alike the machine's moods, and what the one before leaves to do.
Static settings are pinned: whatever the load, they hold.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.speculation.vocabulary import LAYERSKIP, PLAIN_DECISION, Decision
from shortstack.bench.control.contenders import GOODPUT_NAME
from shortstack.bench.control.live_figures import PLAIN_AGAIN, PLAIN_NAME, LiveContender
from shortstack.bench.control.replay_report import arm_name
from shortstack.bench.open_bench import check_room
from shortstack.bench.prompts import BenchPrompt
from shortstack.bench.runners import GatewayRunner, Work
from shortstack.bench.samples import Peer, Sample
from shortstack.client import Client
from shortstack.plan import StackConfig
from shortstack.request import PLAIN, Speculation, pinned
from shortstack.stack import Observer, Stack

# Orders are the same in every run.
ORDER_SEED = 0


@dataclass(frozen=True, slots=True)
class LivePlan:
    """What to compare. arms: drafting settings; policies: by name, `goodput` is the server's own.

    num_warm_up_tokens: decoded by every policy before anything counts.
    """

    model_dir: Path
    prompts: Sequence[BenchPrompt]
    arms: Sequence[Decision]
    policies: Sequence[str]
    max_new_tokens: int
    repeats: int
    num_warm_up_tokens: int
    num_threads: int | None = None

    def contenders(self) -> list[LiveContender]:
        """Return plain decoding, every setting, every policy, and plain decoding once more."""
        return [
            LiveContender(PLAIN_NAME, PLAIN_DECISION),
            *(LiveContender(arm_name(arm), arm) for arm in self.arms),
            *(LiveContender(name) for name in self.policies),
            LiveContender(PLAIN_AGAIN, PLAIN_DECISION),
        ]

    @property
    def num_turns(self) -> int:
        """Texts decoded, those of the warm-up apart."""
        return len(self.prompts) * len(self.contenders()) * self.repeats


def wishes_of(contender: LiveContender) -> Speculation:
    """Return what the gateway is asked for."""
    arm = contender.arm
    if arm is None:
        is_default = contender.name == GOODPUT_NAME
        return Speculation() if is_default else Speculation(policy=contender.name)
    if arm.is_off:
        return PLAIN
    assert arm.method == LAYERSKIP
    return pinned(arm.exit_layer, arm.max_draft_len, arm.stop_threshold)


@dataclass(frozen=True)
class LiveRun:
    """Samples by contender, and tokens that the warm-up took of each policy."""

    samples: dict[str, list[Sample]]
    warm_up_tokens: dict[str, int]


async def run_live(
    plan: LivePlan,
    on_turn: Callable[[], None],
    on_event: Observer,
    between: Callable[[], None] = lambda: None,
) -> LiveRun:
    """Bring a stack up, let policies warm up, then let all take turns.

    Args:
        plan: what to compare.
        on_turn: called behind every text that counts.
        on_event: told what the stack's processes say.
        between: called in a thread while nothing is decoded, before every prompt's turn.

    Raises:
        StackError: the stack did not come up.
        UsageError: a prompt leaves no room.
        ShortstackError: a request failed.
    """
    config = StackConfig(model=plan.model_dir, num_threads=plan.num_threads)
    async with Stack(config, on_event) as stack, Client(stack.target) as client:
        model = (await client.models()).models[0]
        check_room(plan.prompts, plan.max_new_tokens, model.max_context_len)
        work = Work(plan.max_new_tokens, tuple(model.eos_token_ids))
        runners = {
            each.name: GatewayRunner(Peer.PIPELINE, client, work, wishes_of(each))
            for each in plan.contenders()
        }
        for runner in runners.values():
            await runner.run(plan.prompts[0])
        warmed = {
            name: await _warm_up(runners[name], plan.prompts, plan.num_warm_up_tokens)
            for name in plan.policies
        }
        samples = await _take_turns(plan, runners, on_turn, stack, between)
    return LiveRun(samples, warmed)


async def _warm_up(runner: GatewayRunner, prompts: Sequence[BenchPrompt], num_tokens: int) -> int:
    """Decode prompts until there are so many tokens; return how many there were."""
    num_done = 0
    while num_done < num_tokens:
        for prompt in prompts:
            num_done += len((await runner.run(prompt)).token_ids)
            if num_done >= num_tokens:
                break
    return num_done


async def _take_turns(
    plan: LivePlan,
    runners: dict[str, GatewayRunner],
    on_turn: Callable[[], None],
    stack: Stack,
    between: Callable[[], None],
) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {name: [] for name in runners}
    names = list(runners)
    draw = random.Random(ORDER_SEED)
    for _ in range(plan.repeats):
        for prompt in plan.prompts:
            await asyncio.to_thread(between)
            draw.shuffle(names)
            for name in names:
                samples[name].append(await runners[name].run(prompt))
                on_turn()
            stack.poll()
            await asyncio.sleep(0)
    return samples
