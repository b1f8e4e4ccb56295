"""The policies that there are, by name. Pure.

goodput                             the load governor, for all sessions together
static                              what the session asked for
heuristic hf                        lengths by the last round
del del_threshold del_cost          tokens per layer, or per time
ucb ucb_published                   bandits, for the evaluator only
"""

from collections.abc import Callable, Mapping

from shared.control.policies import static
from shared.control.policies.as_wished import AsWished
from shared.control.policies.base import PolicyContext, SessionPolicy
from shared.control.policies.del_policy import DEL, DEL_COST, DEL_THRESHOLD, Del
from shared.control.policies.heuristic import HUGGING_FACE, PLUS_MINUS_ONE, Heuristic
from shared.control.policies.ucb import Ucb, published_radius, tuned_radius
from shared.errors import InvalidRequest

GOODPUT = "goodput"

Factory = Callable[[PolicyContext], SessionPolicy]

SESSION_POLICIES: Mapping[str, Factory] = {
    static.NAME: lambda context: AsWished(),
    PLUS_MINUS_ONE.name: lambda context: Heuristic(context, PLUS_MINUS_ONE),
    HUGGING_FACE.name: lambda context: Heuristic(context, HUGGING_FACE),
    DEL.name: lambda context: Del(context, DEL),
    DEL_THRESHOLD.name: lambda context: Del(context, DEL_THRESHOLD),
    DEL_COST.name: lambda context: Del(context, DEL_COST),
}
# What requests and settings may name.
POLICY_NAMES = (GOODPUT, *SESSION_POLICIES)

EVALUATED_ONLY: Mapping[str, Factory] = {
    "ucb": lambda context: Ucb(context, "ucb", tuned_radius),
    "ucb_published": lambda context: Ucb(context, "ucb_published", published_radius),
}


def make_policy(name: str, context: PolicyContext) -> SessionPolicy | None:
    """Return a new policy for one session; None for `goodput`, which the governor plans itself.

    Raises:
        InvalidRequest: there is none of this name.
        ValueError: the context lacks costs for a policy that goes by them.
    """
    return None if name == GOODPUT else _make(name, context, SESSION_POLICIES)


def make_baseline(name: str, context: PolicyContext) -> SessionPolicy | None:
    """Return what `make_policy` does, from all names that the evaluator knows; errors likewise."""
    if name == GOODPUT:
        return None
    return _make(name, context, {**SESSION_POLICIES, **EVALUATED_ONLY})


def _make(name: str, context: PolicyContext, factories: Mapping[str, Factory]) -> SessionPolicy:
    factory = factories.get(name)
    if factory is None:
        known = ", ".join((GOODPUT, *factories))
        raise InvalidRequest(
            f"policy {name!r} is not known; use one of {known}", field="speculation.policy"
        )
    return factory(context)
