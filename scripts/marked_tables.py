"""Documents with tables that a script makes between two marks: written anew, or compared."""

import sys
from pathlib import Path


def write_or_check(
    document: Path, marks: tuple[str, str], tables: str, arguments: list[str], remedy: str
) -> int:
    """Put tables between the marks of a document, or say that others stand there.

    Args:
        document: which has both marks.
        marks: lines before and behind the tables.
        tables: as they should be.
        arguments: of the script; `--check` compares.
        remedy: the command that mends a stale document.

    Returns:
        The exit status: 1 if the document was compared and is stale.
    """
    begin, end = marks
    text = document.read_text(encoding="utf-8")
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    fresh = f"{head}{begin}\n\n{tables}\n{end}{tail}"
    if arguments == ["--check"]:
        if fresh != text:
            print(f"{document} is stale: run {remedy}", file=sys.stderr)
        return int(fresh != text)
    document.write_text(fresh, encoding="utf-8")
    return 0
