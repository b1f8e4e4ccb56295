"""The command line: `shortstack COMMAND`.

Knows the commands by name and one line of help, and imports the module of one only when it is
called: `shortstack --help` loads neither grpc nor torch. Errors end here as one line and an exit
status: 2 for arguments that cannot be carried out, 1 for everything that went wrong later.
"""

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import typer

from shared.errors import ShortstackError
from shortstack.errors import CommandError, Stopped, UsageError

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
# The command of an entry has its own help and parses its own options.
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@dataclass(frozen=True, slots=True)
class Entry:
    """One command: `module:function`, typer-compatible, and its line in the help."""

    name: str
    target: str
    help: str


COMMANDS = (
    Entry("up", "shortstack.commands.up:command", "Bring up a local stack and keep it up."),
    Entry("generate", "shortstack.commands.generate:command", "Complete a text, streaming."),
    Entry("chat", "shortstack.commands.chat:command", "Talk with a model."),
    Entry("info", "shortstack.commands.info:command", "Show cells, model, pool and counters."),
    Entry("sessions", "shortstack.commands.sessions:command", "Watch what is decided, and why."),
    Entry("traces", "shortstack.commands.traces:command", "Show traces of requests as they come."),
    Entry("check", "shortstack.commands.check:command", "Compare the stack with a reference."),
    Entry("exits", "shortstack.commands.exits:command", "Say whether a model's early exits pay."),
    Entry(
        "draft-vocab",
        "shortstack.commands.draft_vocab:command",
        "Choose the tokens that drafts are scored by.",
    ),
    Entry("drill", "shortstack.drill.command:command", "Break a stack and check its promises."),
    Entry("certs", "shortstack.commands.certs:command", "Make a test CA to try mTLS out."),
    Entry("demo", "shortstack.demo:command", "Watch four prompts, then compare with plain."),
)
KEYS = (
    Entry("new", "shortstack.commands.keys:new", "Make a key; it is printed once."),
    Entry("list", "shortstack.commands.keys:show", "List the keys of a file."),
    Entry("check", "shortstack.commands.keys:check", "Look for faults in a file of keys."),
    Entry("revoke", "shortstack.commands.keys:revoke", "Let a key in no more."),
)
BENCHES = (
    Entry("decode", "shortstack.bench.decode:command", "Measure decoding of a checkpoint."),
    Entry("serve", "shortstack.bench.serve.command:command", "Measure serving under load."),
    Entry("gateway", "shortstack.bench.gateway.command:command", "Measure what the gateway adds."),
    Entry("hostile", "shortstack.bench.hostile.command:command", "Attack a stack's ports."),
    Entry("synth", "shortstack.bench.synth:command", "Write a synthetic model."),
    Entry("draft-vocab", "shortstack.bench.draft_vocab:command", "Measure a draft vocabulary."),
    Entry("methods", "shortstack.bench.methods.command:command", "Compare all ways to draft."),
    Entry("kangaroo", "shortstack.bench.kangaroo:command", "Replay adapters beside raw exits."),
    Entry("telemetry", "shortstack.bench.telemetry:command", "Measure what telemetry costs."),
    Entry("threads", "shortstack.bench.threads:command", "Measure threads fitted to passes."),
    Entry(
        "record-tapes",
        "shortstack.bench.control.record_tapes:command",
        "Keep what exits say along a model's texts.",
    ),
    Entry(
        "policies",
        "shortstack.bench.control.policies_command:command",
        "Replay control policies over recorded texts.",
    ),
    Entry(
        "policies-live",
        "shortstack.bench.control.live_command:command",
        "Compare policies with static settings, served.",
    ),
)
# By name, not by import: the commands of training stand beside this package, not below it.
TRAININGS = (
    Entry("layerskip", "training.commands:layerskip", "Teach a model to exit early."),
    Entry("kangaroo", "training.commands:kangaroo", "Train draft adapters beside a frozen model."),
    Entry("acceptance", "training.commands:acceptance", "Train heads that tell acceptance."),
    Entry("card", "training.commands:card", "Write the model card of a finished run anew."),
)


def make_app(help_text: str, entries: Sequence[Entry]) -> typer.Typer:
    """Make the app of a group of commands."""
    group = typer.Typer(
        help=help_text,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        no_args_is_help=True,
        context_settings=HELP_OPTIONS,
    )
    for entry in entries:
        _register(group, entry)
    return group


def _register(group: typer.Typer, entry: Entry) -> None:
    @group.command(entry.name, help=entry.help, add_help_option=False, context_settings=PASS_ON)
    def pass_on(context: typer.Context) -> None:
        with one_line_errors():
            run_entry(entry, context.args, context.command_path)


def run_entry(entry: Entry, arguments: list[str], prog_name: str) -> None:
    """Import a command, let it parse its arguments, and run it."""
    module_name, _, function_name = entry.target.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{error.name} is not installed; install the extra of this command"
        ) from error
    single = typer.Typer(
        rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
    )
    single.command(context_settings=HELP_OPTIONS)(function)
    single(args=arguments, prog_name=prog_name)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line on stderr for every error that is not a bug of ours."""
    try:
        yield
    except CommandError as error:
        _fail(str(error), error.exit_status)
    except ShortstackError as error:
        field = f" ({error.field})" if error.field and error.field not in error.message else ""
        _fail(error.message + field, 1)
    except Stopped as stopped:
        sys.exit(stopped.exit_status)


def _fail(message: str, exit_status: int) -> None:
    print(f"shortstack: {message}", file=sys.stderr)
    sys.exit(exit_status)


app = make_app("Serve language models with self-speculative decoding.", COMMANDS)
app.add_typer(make_app("Measure speed.", BENCHES), name="bench")
app.add_typer(make_app("Make, list, check and revoke API keys.", KEYS), name="keys")
app.add_typer(make_app("Train models to draft for themselves.", TRAININGS), name="train")

if __name__ == "__main__":
    app()
