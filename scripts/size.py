"""Prints how large our code is: files, lines, lengths of files and functions.

    python scripts/size.py

Physical lines, blanks counted; generated stubs left out. p90: nine of ten are not longer.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("shared", "services", "shortstack", "training", "bench", "scripts", "tests")
ROW = "{:<12} {:>6} {:>8} {:>8} {:>6} {:>10} {:>6} {:>6}"


def main() -> None:
    """Print the table."""
    print(ROW.format("folder", "files", "lines", "file med", "max", "func med", "p90", "max"))
    for folder in FOLDERS:
        files = list(our_files(Path(folder)))
        if files:
            print(ROW.format(folder, *measure(files)))


def our_files(folder: Path) -> Iterator[Path]:
    """Yield the Python files that people wrote."""
    return (path for path in sorted(folder.rglob("*.py")) if "_pb2" not in path.name)


def measure(files: list[Path]) -> list[int]:
    """Return the numbers of a row."""
    texts = [path.read_text(encoding="utf-8") for path in files]
    lines = sorted(len(text.splitlines()) for text in texts)
    lengths = sorted(length for text in texts for length in function_lengths(text)) or [0]
    return [
        len(files),
        sum(lines),
        quantile(lines, 0.5),
        lines[-1],
        quantile(lengths, 0.5),
        quantile(lengths, 0.9),
        lengths[-1],
    ]


def function_lengths(text: str) -> Iterator[int]:
    """Yield the length of every function of a file."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def quantile(values: list[int], share: float) -> int:
    """Return the value that a share of the sorted values does not exceed."""
    return values[min(len(values) - 1, int(share * len(values)))]


if __name__ == "__main__":
    main()
