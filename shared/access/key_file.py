"""API keys on disk: read with all faults, appended to, revoked, watched for changes.

Writers replace the file as a whole, so that a reader finds the old records or the new ones.
"""

import os
import stat
import tempfile
from pathlib import Path

from shared.access.key_records import KeyFaults, KeyRecord, check_records, parse_records

Signature = tuple[int, ...]


def read_key_file(path: Path) -> tuple[KeyRecord, ...]:
    """Return the records of a file.

    Raises:
        KeyFaults: it cannot be read, anybody may write to it, or lines of it are malformed.
    """
    try:
        if path.stat().st_mode & stat.S_IWOTH:
            raise KeyFaults(f"{path}: anybody may write to it (chmod o-w)")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise KeyFaults(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeyFaults(f"{path}: is no UTF-8 text") from None
    try:
        return parse_records(text)
    except KeyFaults as error:
        raise KeyFaults("\n".join(f"{path}: {each}" for each in str(error).splitlines())) from None


def write_key_file(path: Path, records: tuple[KeyRecord, ...]) -> None:
    """Replace the records of a file; a new one is for this user's eyes only.

    Raises:
        KeyFaults: the records contradict each other; the file stays as it was.
        OSError: it cannot be written.
    """
    text = "".join(record.to_line() for record in records)
    check_records(records)
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
    # Through a link, as secrets are often mounted, to the file itself.
    target = path.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def signature_of(*paths: Path | None) -> Signature:
    """Return what changes when one of the files does; a missing file is a change as well."""
    parts: list[int] = []
    for path in paths:
        if path is None:
            continue
        try:
            status = path.stat()
        except OSError:
            parts.append(-1)
            continue
        parts += (status.st_mtime_ns, status.st_size, status.st_ino)
    return tuple(parts)
