"""The policy `static` in the shape of the others: the session's own wish, come what may. Pure."""

from shared.control.evidence.observation import Observation
from shared.control.policies import static
from shared.speculation.vocabulary import Decision


class AsWished:
    """Proposes what the session asked for. The baseline to beat."""

    name = static.NAME
    wants_full_shadow = False

    def wish(self, default: Decision) -> Decision:
        """Return the default."""
        return default

    def note(
        self, decision: Decision, num_drafted: int, num_accepted: int, observation: Observation
    ) -> None:
        """Learn nothing."""

    def note_prompt(self, observation: Observation) -> None:
        """Learn nothing."""
