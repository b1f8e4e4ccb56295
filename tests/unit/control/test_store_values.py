"""Keys and values of the control store: what they tell, and when they are due."""

from shared.control.store.keys import (
    model_key,
    prior_name,
    session_name,
)
from shared.control.store.schedule import NUM_ROUNDS, PERIOD_NS, FlushSchedule
from shared.control.store.session_state import SessionState

STATE = SessionState("mk", "layerskip", 3, 4, 0.25, True, b"\x00\xff", 1, 2, 3, 4, 5)


def test_whatever_changes_acceptance_changes_the_model_key() -> None:
    facts = ("fingerprint", "layerskip", "adapter", "greedy")
    keys = {model_key(*facts)}
    for index in range(4):
        changed = list(facts)
        changed[index] += "x"
        keys.add(model_key(*changed))
    assert len(keys) == 5
    # Parts cannot be pushed from one field into the next.
    assert model_key("a", "b", "", "") != model_key("ab", "", "", "")


def test_a_key_names_a_tenants_conversation_by_hashes() -> None:
    name = session_name("ann", "talk")
    assert name == session_name("ann", "talk")
    tenant, session = name.removeprefix("ss1:sess:{").removesuffix("}").split("/")
    assert (len(tenant), len(session)) == (16, 16)
    assert session_name("ann", "other").startswith(f"ss1:sess:{{{tenant}/")
    assert session not in session_name("bob", "talk")


def test_counts_of_all_a_tenant_and_a_task_lie_apart_in_one_slot() -> None:
    names = {
        prior_name("mk", None, "", 3),
        prior_name("mk", "", "", 3),
        prior_name("mk", "ann", "", 3),
        prior_name("mk", "ann", "letters", 3),
        prior_name("mk", "ann", "letters", 4),
    }
    assert len(names) == 5
    assert all(name.startswith("ss1:prior:{mk}:") for name in names)


def test_a_state_is_read_as_it_was_written() -> None:
    fields = {
        name.encode(): value if isinstance(value, bytes) else str(value).encode()
        for name, value in STATE.to_fields().items()
    }
    assert SessionState.from_fields(fields | {b"of_tomorrow": b"1"}) == STATE


def test_evidence_is_due_after_rounds_or_after_a_time() -> None:
    by_rounds = FlushSchedule(last_ns=0)
    due = [by_rounds.note_round(1) for _ in range(2 * NUM_ROUNDS)]
    assert [index for index, is_due in enumerate(due, 1) if is_due] == [NUM_ROUNDS, 2 * NUM_ROUNDS]
    by_time = FlushSchedule(last_ns=5)
    assert not by_time.note_round(4 + PERIOD_NS)
    assert by_time.note_round(5 + PERIOD_NS)
    assert not by_time.note_round(6 + PERIOD_NS)
