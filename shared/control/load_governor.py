"""How long each session drafts in the next step, so that all of them together deliver most.

Where steps are memory-bound (few sessions) a draft's rows are nearly free; where they are
compute-bound (many) they cost. The governor plans with what steps were measured to take and with
what each session's drafts were seen to bring. Pure: no clock, no randomness.

    plan      every REPLAN_STEPS steps, and when sessions come or go       step_plan, step_costs
    keep      until another plan is clearly better                         plan_keeper
    probe     now and then, what the plan does not show                    step_probes
    arbiter   measured speed overrules the plan                            arbiter
"""

from collections.abc import Callable, Sequence

from shared.control.acceptance_book import AcceptanceBook
from shared.control.arbiter import Arbiter, level_of
from shared.control.grants import all_plain, granted, only_one_drafts
from shared.control.plan_keeper import PlanKeeper
from shared.control.step_costs import StepCosts
from shared.control.step_plan import Outlook, StepPlan, StepPlanner
from shared.control.step_probes import PlanView, StepProbes
from shared.control.steps import RoundOutcome, SessionLoad, StepOutcome, draft_shape
from shared.speculation.vocabulary import Decision

# Steps between looks at the plan: so many, and half as many as there are sessions.
REPLAN_STEPS = 8
# Rounds by which drafts of a kind are hardly known.
NUM_COLD_ROUNDS = 16
OVERHEAD_RATE = 0.05
# More than this share of a step is not believed to be overhead of its own.
MAX_OVERHEAD_SHARE = 0.2


def resumes_at_exit(decision: Decision) -> int:
    """Return where verification takes up a session's rows: its exit layer."""
    return decision.exit_layer


class LoadGovernor:
    """Shortens or turns off the drafts of sessions that share steps. Owned by one thread.

    Use, by the verify engine, once per step:

        decisions = governor.decide(loads, has_prefill=...)    while planning
        governor.note_step(outcome)                            behind the commit; feeds `costs` too
        governor.forget(session_id)                            when a session ends
    """

    def __init__(
        self,
        costs: StepCosts,
        resume_layer: Callable[[Decision], int] = resumes_at_exit,
    ) -> None:
        """Take the process's costs, which `note_step` feeds, and where methods verify from."""
        self.costs = costs
        self._resume_layer = resume_layer
        self._arbiter = Arbiter()
        self._keeper = PlanKeeper()
        self._probes = StepProbes()
        self._book = AcceptanceBook()
        # Steps with drafts by a plan, in force or tried, by level of load.
        self._num_tried: dict[int, int] = {}
        self._overhead_ns = 0.0
        self._step_index = 0
        # The plan in force, and for whom it was made when.
        self._view: PlanView | None = None
        self._planned_keys: list[str] = []
        self._draft_lens: dict[str, int] = {}
        self._probed_steps: dict[str, int] = {}
        self._planned_step = -REPLAN_STEPS
        # What this step tries beside the plan.
        self._is_probing = False
        self._is_plain_probe = False
        self._probed_key = ""
        self._probed_len = 0

    # --- deciding -------------------------------------------------------------------------------

    def decide(self, loads: Sequence[SessionLoad], *, has_prefill: bool = False) -> list[Decision]:
        """Return each session's decision for the next step, in the order of the loads.

        A decision is the wish itself, the wish with a smaller max_draft_len, or a plain one. Its
        reason is the wish's own where it was granted in full, else one of

            no_costs   plain: what a step takes is not known yet
            shorter    a shorter draft delivers more, with this many sessions
            shed       plain: drafts of this session cost more than they bring
            arbiter    plain: at this load plain steps were measured to deliver more
            probe      plain, longer or not plain for this one step, to learn from it

        Pinned sessions and those that wish to be plain get their wish as it is.

        Args:
            loads: the sessions that decode in the next step.
            has_prefill: prompt rows will ride along; nothing is probed then.
        """
        self._step_index += 1
        self._is_probing = self._is_plain_probe = False
        self._probed_key = ""
        for load in loads:
            self._book.open(load.key)
        free = [load for load in loads if not load.is_pinned and not load.wished.is_off]
        if not free:
            return [load.wished for load in loads]
        if self.costs.pass_ns({0: len(loads)}) is None:
            return all_plain(loads, "no_costs")
        if self.costs.draft_ns(free[0].wished.exit_layer, 1, 1) is None:
            return only_one_drafts(loads, free[0])
        if self._arbiter.is_off(len(loads)):
            return all_plain(loads, "arbiter")
        view = self._look(loads)
        if not has_prefill:
            if self._probes.is_plain_due(
                self._step_index, view, is_doubtful=self._arbiter.doubts(len(loads))
            ):
                self._is_probing = self._is_plain_probe = True
                return all_plain(loads, "probe")
            num_tried = self._num_tried.get(level_of(len(loads)), 0)
            trial = self._probes.due_trial(self._step_index, view, num_tried)
            if trial is not None:
                self._is_probing = True
                return granted(loads, trial.lens, view.plan.lens)
            self._probe_draft(loads, view)
        return granted(loads, self._lens(loads, view), view.plan.lens)

    def _lens(self, loads: Sequence[SessionLoad], view: PlanView) -> list[int]:
        """Return the lengths of the plan, within the wishes of now, with the draft to probe."""
        return [
            min(
                self._probed_len if load.key == self._probed_key else draft_len,
                load.wished.max_draft_len,
            )
            for load, draft_len in zip(loads, view.plan.lens, strict=True)
        ]

    # --- planning -------------------------------------------------------------------------------

    def _look(self, loads: Sequence[SessionLoad]) -> PlanView:
        """Return the plan in force for these sessions, after another look if it is time for one."""
        keys = [load.key for load in loads]
        view = self._view
        num_steps = REPLAN_STEPS + len(loads) // 2
        is_due = self._step_index >= self._planned_step + num_steps
        if view is not None and keys == self._planned_keys and not is_due:
            return view
        is_fresh = set(keys).isdisjoint(self._planned_keys)
        self._planned_keys, self._planned_step = keys, self._step_index
        outlooks = [self._outlook(load) for load in loads]
        planner = StepPlanner(self.costs, outlooks, self._overhead_ns)
        held = [self._held_len(*each) for each in zip(loads, outlooks, strict=True)]
        plain, under_caps = planner.rate_plain(), planner.under_caps()
        best = max([plain, *under_caps], key=lambda plan: plan.tokens_per_ns)
        plan = self._keeper.choose(
            planner.rate(held),
            best,
            plain,
            num_tried=self._num_tried.get(level_of(len(loads)), 0),
            is_fresh=is_fresh,
        )
        for load, draft_len in zip(loads, plan.lens, strict=True):
            self._draft_lens[load.key] = draft_len
        self._view = PlanView(plan, plain, under_caps)
        return self._view

    def _held_len(self, load: SessionLoad, outlook: Outlook) -> int:
        """Return a session's length under the plan in force; who joins takes what it pays for."""
        if outlook.is_fixed or not outlook.kept:
            return len(outlook.kept)
        draft_len = self._draft_lens.get(load.key)
        if draft_len is None:
            if self._view is None or not self._view.is_drafting:
                return 0
            plan = self._view.plan
            draft_len = sum(kept >= plan.price for kept in outlook.kept[: plan.max_len])
        return min(draft_len, len(outlook.kept))

    def _outlook(self, load: SessionLoad) -> Outlook:
        wished = load.wished
        if wished.is_off:
            return Outlook()
        resume_layer = self._resume_layer(wished)
        return self._book.outlook(load.key, wished, resume_layer, is_pinned=load.is_pinned)

    def _probe_draft(self, loads: Sequence[SessionLoad], view: PlanView) -> None:
        """Choose the session that drafts longer than planned in this step, if it is time to."""
        if not self._probes.is_draft_due(self._step_index):
            return
        short = {
            load.key: (load, draft_len)
            for load, draft_len in zip(loads, view.plan.lens, strict=True)
            if not load.is_pinned and draft_len < load.wished.max_draft_len
        }
        if not short:
            return
        key = self._probes.take_follow_up()
        if key not in short:
            key = min(short, key=lambda each: self._probed_steps.get(each, -1))
        load, draft_len = short[key]
        more = self._probes.num_more_places()
        self._is_probing = True
        self._probed_key = key
        self._probed_len = min(draft_len + more, load.wished.max_draft_len)
        self._probed_steps[key] = self._step_index
        self._probes.note_draft_probe(
            self._step_index,
            self._draft_probe_loss(load, draft_len, view.plan),
            is_cold=self._book.num_rounds_of(load.wished) < NUM_COLD_ROUNDS,
        )

    def _draft_probe_loss(self, load: SessionLoad, draft_len: int, plan: StepPlan) -> float:
        """Return what the longer draft of one session loses, in steps of the plan.

        At most: a longer draft of another session may have the same draft steps anyway.
        """
        exit_layer = load.wished.exit_layer
        extra_ns = self.costs.draft_ns(exit_layer, 1, self._probed_len) or 0.0
        extra_ns -= self.costs.draft_ns(exit_layer, 1, draft_len) or 0.0
        kept = self._book.kept(load.key, load.wished, self._probed_len)
        return (extra_ns - sum(kept[draft_len:]) / plan.tokens_per_ns) / plan.step_ns

    # --- learning -------------------------------------------------------------------------------

    def note_step(self, outcome: StepOutcome) -> None:
        """Learn from a step: costs, acceptance, and delivered speed at this load.

        Steps with prefill rows teach costs and acceptance, not delivered speed. Steps without
        rounds (prompts only) may be noted too.
        """
        self._note_costs(outcome)
        for each in outcome.rounds:
            # Sessions that ended in this step are forgotten already.
            if each.key in self._book:
                self._follow_up(each)
                self._book.note(each)
        if outcome.rounds and not outcome.num_prefill_rows:
            self._note_speed(outcome)

    def _note_costs(self, outcome: StepOutcome) -> None:
        rows: dict[int, int] = {0: outcome.num_prefill_rows}
        drafting = []
        for each in outcome.rounds:
            layer = self._resume_layer(each.decision) if each.num_drafted else 0
            rows[layer] = rows.get(layer, 0) + each.num_drafted + 1
            if each.num_drafted:
                drafting.append(each)
        self.costs.note_pass(rows, outcome.pass_ns)
        if drafting:
            num_rows, num_steps = draft_shape([each.num_drafted for each in drafting])
            exit_layer = max(each.decision.exit_layer for each in drafting)
            self.costs.note_draft(exit_layer, num_rows, num_steps, outcome.draft_ns)

    def _follow_up(self, each: RoundOutcome) -> None:
        """Tell of a probe whose drafts were all kept how likely that was thought to be."""
        cap = each.decision.max_draft_len
        # A probe may come to nothing: no pages for its drafts, or its draft worker was lost.
        if each.num_drafted and each.key == self._probed_key and each.num_accepted == cap:
            kept = self._book.kept(each.key, each.decision, cap)
            self._probes.follow_up(self._step_index, each.key, kept[-1])

    def _note_speed(self, outcome: StepOutcome) -> None:
        """Tell the arbiter of steps as planned and of plain ones; learn the overhead of a step."""
        ns = outcome.step_ns or outcome.draft_ns + outcome.pass_ns
        if ns <= 0:
            return
        overhead_ns = max(0, ns - outcome.draft_ns - outcome.pass_ns)
        overhead_ns = min(overhead_ns, int(MAX_OVERHEAD_SHARE * ns))
        self._overhead_ns += OVERHEAD_RATE * (overhead_ns - self._overhead_ns)
        num_sessions = len(outcome.rounds)
        num_tokens = sum(each.num_emitted for each in outcome.rounds)
        num_drafting = sum(each.num_drafted > 0 for each in outcome.rounds)
        if num_drafting and not self._probed_key:
            level = level_of(num_sessions)
            self._num_tried[level] = self._num_tried.get(level, 0) + 1
        if not num_drafting:
            self._arbiter.note_plain(num_sessions, num_tokens, ns, is_probe=self._is_plain_probe)
        elif not self._is_probing and self._view is not None and self._view.is_drafting:
            self._arbiter.note_drafting(num_sessions, num_tokens, ns)

    def forget(self, key: str) -> None:
        """Forget a session that ended; unknown keys are fine."""
        self._book.forget(key)
        self._draft_lens.pop(key, None)
        self._probed_steps.pop(key, None)
