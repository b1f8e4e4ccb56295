"""Looks in README, docs and cards for what they name and what does not exist.

python scripts/documents.py [FILE...]     exit status 1, and a line for each, if there is any

Looked at: links and their anchors; in code, paths of this repository, settings, metrics, targets of
make, modules and scripts that python runs, and commands of shortstack with their flags.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import typer
from configuration import groups

from shared.settings import PREFIX
from shared.telemetry.signals.table import SIGNALS
from shortstack.cli import BENCHES, COMMANDS, KEYS, TRAININGS, Entry

REPO = Path(__file__).resolve().parent.parent
DOCUMENTS = ("*.md", "docs/**/*.md", "services/*/README.md", "training/*.md", "models/*/README.md")
# Of the command line, see docs/configuration.md.
OWN_SETTINGS = {
    f"{PREFIX}{name}" for name in ("TARGET", "API_KEY", "API_KEY_FILE", "CA", "CERT", "CERT_KEY")
}
FENCE = re.compile(r"^( *)```.*?^\1```", re.M | re.S)
INLINE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
INDENTED = re.compile(r"(?:^    .*\n?)+", re.M)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.M)
SETTING = re.compile(rf"\b{PREFIX}[A-Z0-9_]+|\b[A-Z]+__[A-Z0-9_]+")
METRIC = re.compile(r"\b(?:shortstack_|vllm:|gen_ai_server_)\w+")
COMMAND = re.compile(r"(?:^|[\s/(`])shortstack ((?:[a-z][a-z-]*\b ?)+)([^\n|;#`]*)")
FLAG = re.compile(r"(?<!\S)--[a-z][a-z-]*")
MAKE = re.compile(r"(?:^|[\s`])make ((?:[a-z][a-z-]*)(?: [a-z-]+)*)")
MODULE = re.compile(r"python -m ([a-z_.]+)")
PLACEHOLDER = re.compile(r"(^|/)[A-Z]+(\.\w+)?($|/)")
FILE = re.compile(r"(?<![\w/.~$-])((?:[\w.-]+/)+[\w.-]*\w)(?![\w/*{<-])")


@dataclass(frozen=True, slots=True)
class Fault:
    """A place that names what does not exist."""

    document: str
    what: str

    def __str__(self) -> str:
        return f"{self.document}: {self.what}"


def main(arguments: list[str]) -> int:
    """Print what is wrong."""
    given = [Path(argument).resolve() for argument in arguments]
    documents = given or sorted({path for each in DOCUMENTS for path in REPO.glob(each)})
    faults = [fault for path in documents for fault in faults_of(path)]
    print("\n".join(map(str, faults)) or f"{len(documents)} documents name what exists")
    return 1 if faults else 0


def faults_of(path: Path) -> Iterator[Fault]:
    """Return what a document names wrongly, each thing once."""
    text = path.read_text(encoding="utf-8")
    name = str(path.relative_to(REPO) if path.is_relative_to(REPO) else path)
    code = "\n".join(code_of(text))
    found = (*links(path, text), *settings(code), *metrics(code), *commands(code), *runs(code))
    for what in dict.fromkeys((*found, *files(path, code))):
        yield Fault(name, what)


def code_of(text: str) -> Iterator[str]:
    """Return what is set as code, in blocks or in lines."""
    blocks = [found.group() for found in FENCE.finditer(text)]
    text = FENCE.sub("", text)
    yield from blocks
    yield from (found.group() for found in INDENTED.finditer(text))
    yield from (found.group(1).replace("\n", " ") for found in INLINE.finditer(text))


def links(path: Path, text: str) -> Iterator[str]:
    """Return links that lead nowhere."""
    for target in LINK.findall(FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists():
            yield f"link to {target}"
        elif anchor and anchor not in anchors_of(there):
            yield f"anchor {target}"


@cache
def anchors_of(path: Path) -> frozenset[str]:
    """Return what headings of a document are called in links."""
    headings = HEADING.findall(FENCE.sub("", path.read_text(encoding="utf-8")))
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return frozenset(each.strip().replace(" ", "-") for each in plain)


@cache
def known_settings() -> frozenset[str]:
    """Return all variables."""
    names = {f"{group.upper()}__{option.upper()}" for group, fields in groups().items()
             for option in fields.model_fields}  # fmt: skip
    return frozenset(names | {f"{PREFIX}{name}" for name in names} | OWN_SETTINGS)


def settings(code: str) -> Iterator[str]:
    """Return variables that nobody reads; a part of a name stands for all that begin so."""
    for name in SETTING.findall(code):
        known = known_settings()
        is_start = name.endswith("_") and any(each.startswith(name) for each in known)
        if name not in known and not is_start:
            yield f"setting {name}"


def metrics(code: str) -> Iterator[str]:
    """Return metrics that nobody exposes."""
    known = {row.name for row in SIGNALS}
    for name in METRIC.findall(code):
        plain = re.sub(r"_(bucket|count|sum)$", "", name)
        is_start = name.endswith("_") and any(each.startswith(name) for each in known)
        if not known & {name, plain} and not is_start and not name.startswith("shortstack_pb2"):
            yield f"metric {name}"


def commands(code: str) -> Iterator[str]:
    """Return commands of shortstack, and flags, that there are none of."""
    joined = re.sub(r"\\\n\s*", " ", code)
    for words, rest in COMMAND.findall(joined):
        command = entry_of(words.split())
        if command is None:
            yield f"command shortstack {words.strip()}"
            continue
        missing = [flag for flag in FLAG.findall(rest) if flag not in flags_of(command)]
        yield from (f"flag {flag} of shortstack {command.name}" for flag in missing)


def entry_of(words: list[str]) -> Entry | None:
    """Return the command that words begin with."""
    inner = {"keys": KEYS, "bench": BENCHES, "train": TRAININGS}.get(words[0])
    if inner is not None and len(words) == 1:
        return Entry(words[0], "", "")
    name = words[1] if inner else words[0]
    return next((entry for entry in inner or COMMANDS if entry.name == name), None)


@cache
def flags_of(entry: Entry) -> frozenset[str]:
    """Return the flags of a command."""
    flags = {"--help"}
    if entry.target:
        module, _, function = entry.target.partition(":")
        app = typer.Typer()
        app.command()(getattr(import_module(module), function))
        for parameter in typer.main.get_command(app).params:
            flags |= {*parameter.opts, *parameter.secondary_opts}
    return frozenset(flags)


def runs(code: str) -> Iterator[str]:
    """Return modules that python cannot run, and targets that make does not have."""
    for module in MODULE.findall(code):
        if find_spec(module) is None:
            yield f"module {module}"
    targets = set(re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(), re.M))
    for words in MAKE.findall(code):
        # Words after the first may be of a sentence.
        if (target := words.split()[0]) not in targets:
            yield f"make {target}"


def files(path: Path, code: str) -> Iterator[str]:
    """Return paths below a folder of this repository that are not there."""
    tops = {each.name for each in REPO.iterdir()} | {each.name for each in path.parent.iterdir()}
    for name in FILE.findall(code):
        is_ours = name.partition("/")[0] in tops and not PLACEHOLDER.search(name)
        if is_ours and not any((base / name).exists() for base in (REPO, path.parent)):
            yield f"path {name}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
