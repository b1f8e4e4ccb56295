"""What is found of one level of load beside the curves that serve all of them. Pure.

Curves over rows fit no two loads alike: sessions of a step that draft to different lengths make a
phase look like one with a long hand-over. With what sixteen of them taught, one that stayed behind
was thought to draft at a third more than it took, and decoded plainly for up to a second.
"""

from dataclasses import dataclass, field

from shared.control.hand_over import HandOver
from shared.control.pace import Pace


@dataclass(slots=True)
class LoadFactors:
    """Of passes, of draft phases beside them, and what these take beyond their steps."""

    pass_pace: Pace = field(default_factory=Pace)
    draft_pace: Pace = field(default_factory=Pace)
    hand_over: HandOver = field(default_factory=HandOver)

    def copy(self) -> "LoadFactors":
        """Return those of a load that was never there: it begins like this one."""
        pass_pace, draft_pace = Pace(self.pass_pace.factor), Pace(self.draft_pace.factor)
        return LoadFactors(pass_pace, draft_pace, self.hand_over.copy())
