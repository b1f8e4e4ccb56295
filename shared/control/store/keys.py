"""The keys of control state. All begin with `ss1:`: schema 1. Braces hold the cluster's hash tag.

An incompatible change takes another prefix; both then stand side by side until the old keys expire.
Names that clients choose enter only as hashes: a key tells nobody who a tenant is or what it does,
and no name can reach beyond its own place in the key.
"""

from hashlib import sha256

from shared.ids import CellId

PREFIX = "ss1:"
DAY_MS = 86_400_000
NUM_HASH_CHARS = 16
_NUL = "\0"


def model_key(model_fingerprint: str, method: str, adapter: str, sampling_class: str) -> str:
    """Return `mk`: sessions of one `mk` learn from each other.

    adapter: names whatever drafts are made with besides the model; empty: nothing.
    """
    return _hash(model_fingerprint, method, adapter, sampling_class)


def hardware_key(
    hardware: str, model_fingerprint: str, dtype: str, build: str, num_threads: int
) -> str:
    """Return `hk`: cells of one `hk` have the same costs."""
    return _hash(hardware, model_fingerprint, dtype, build, str(num_threads))


def session_name(tenant: str, session_key: str) -> str:
    """Return `ss1:sess:{tn/sk}`, where a conversation's state lies."""
    return f"{PREFIX}sess:{{{_hash(tenant)}/{_hash(tenant, session_key)}}}"


def prior_name(mk: str, tenant: str | None, task_key: str, day: int) -> str:
    """Return where a day's counts lie: of all (tenant None), of a tenant, or of a task of it.

    day: days since 1970 (UTC).
    """
    if tenant is None:
        return f"{PREFIX}prior:{{{mk}}}:g:{day}"
    if not task_key:
        return f"{PREFIX}prior:{{{mk}}}:t:{_hash(tenant)}:{day}"
    return f"{PREFIX}prior:{{{mk}}}:k:{_hash(tenant)}:{_hash(task_key)}:{day}"


def done_name(mk: str, flush_id: str) -> str:
    """Return the mark of counts that were taken; beside the counts in one slot."""
    return f"{PREFIX}done:{{{mk}}}:{flush_id}"


def cost_name(hk: str) -> str:
    """Return where measured costs lie."""
    return f"{PREFIX}cost:{{{hk}}}"


def arms_name(mk: str) -> str:
    """Return where an operator's orders lie."""
    return f"{PREFIX}arms:{{{mk}}}"


def stream_key(mk: str, tenant: str = "", task_key: str = "") -> str:
    """Return where a task stream's record lies: of a tenant's task, or of all that name none."""
    if not task_key:
        return f"{PREFIX}swift:{{{mk}}}:all"
    return f"{PREFIX}swift:{{{mk}}}:{_hash(tenant)}:{_hash(task_key)}"


def live_name(cell_id: CellId) -> str:
    """Return where a cell tells how it is doing."""
    return f"{PREFIX}live:{{{cell_id}}}"


def _hash(*parts: str) -> str:
    return sha256(_NUL.join(parts).encode()).hexdigest()[:NUM_HASH_CHARS]
