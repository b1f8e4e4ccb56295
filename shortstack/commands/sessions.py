"""`shortstack sessions`: what the controller decides for each session, and why.

shortstack sessions                          a live table of all sessions
shortstack sessions SESSION                  one session's rounds
shortstack sessions SESSION --plot FILE.png  the same as a picture
"""

import asyncio
import json
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

from shared.errors import SessionNotFound
from shared.ids import SessionId
from shortstack import options
from shortstack.client import Client
from shortstack.connect import LOCAL_GATEWAY, Destination, find_gateway
from shortstack.errors import CommandError, UsageError
from shortstack.exits.options import require_picture, require_writable
from shortstack.running import run_command
from shortstack.sessions.plot import plot_timeline
from shortstack.sessions.values import SessionList, SessionTimeline
from shortstack.sessions.view import board, timeline_view

REFRESH_S = 0.5
# What is printed into a file or a pipe is not cut to a terminal's width.
WIDE = 160


def command(
    session: Annotated[
        str | None, typer.Argument(help="Id of one session, or how it begins.", show_default=False)
    ] = None,
    target: options.Target = None,
    api_key: options.ApiKey = None,
    ca: options.Ca = None,
    once: Annotated[bool, typer.Option("--once", help="Print the table once.")] = False,
    as_json: options.AsJson = False,
    ended: Annotated[bool, typer.Option("--ended", help="List sessions that ended, too.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the rounds of SESSION into this PNG.")
    ] = None,
) -> None:
    """Show what the controller decides for each session, and why."""
    destination = Destination(target, None, api_key, ca)
    if session is None:
        if plot is not None:
            raise UsageError("--plot needs the session that is to be drawn")
        run_command(show_all(destination, once=once, as_json=as_json, with_ended=ended))
        return
    if once or ended:
        raise UsageError("--once and --ended are for the table of all sessions")
    if plot is not None:
        require_picture("--plot", plot)
        require_writable("--plot", plot)
    run_command(show_one(destination, session, as_json=as_json, plot=plot))


async def show_all(
    destination: Destination, *, once: bool, as_json: bool, with_ended: bool
) -> None:
    """Print the table; on a terminal, again and again until a signal comes."""
    console = make_console()
    async with Client(await require_target(destination), destination.access) as client:
        if as_json:
            print_json(list_as_dict(await client.list_sessions(with_ended=with_ended)))
        elif once or not console.is_terminal:
            listed = await client.list_sessions(with_ended=with_ended)
            console.print(board(listed, with_ended=with_ended))
        else:
            await watch(client, console, with_ended=with_ended)


async def watch(client: Client, console: Console, *, with_ended: bool) -> None:
    """Show the table and keep it new, until cancelled."""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            listed = await client.list_sessions(with_ended=with_ended)
            live.update(board(listed, with_ended=with_ended), refresh=True)
            await asyncio.sleep(REFRESH_S)


async def show_one(
    destination: Destination, session: str, *, as_json: bool, plot: Path | None
) -> None:
    """Print or draw one session's rounds."""
    async with Client(await require_target(destination), destination.access) as client:
        timeline = await find_timeline(client, session)
    if plot is not None:
        if not timeline.rounds:
            raise CommandError(f"{timeline.session.session_id} has no round yet: nothing to draw")
        plot_timeline(timeline, plot)
    if as_json:
        print_json(timeline_as_dict(timeline))
    elif plot is None:
        make_console().print(timeline_view(timeline))


async def require_target(destination: Destination) -> str:
    """Return the target of a gateway that answers.

    Raises:
        CommandError: there is none.
    """
    target = await find_gateway(destination)
    if not target:
        raise CommandError(f"no gateway answers at {LOCAL_GATEWAY}; name one with --target")
    return target


async def find_timeline(client: Client, session: str) -> SessionTimeline:
    """Return the rounds of the session with this id, or of the one whose id begins so.

    Raises:
        SessionNotFound: there is none.
        UsageError: there are several.
    """
    try:
        return await client.session_timeline(SessionId(session))
    except SessionNotFound:
        listed = await client.list_sessions(with_ended=True)
        ids = {each.session_id for each in listed.sessions if each.session_id.startswith(session)}
        if not ids:
            raise
    if len(ids) > 1:
        raise UsageError(f"{session!r} begins {len(ids)} ids: {', '.join(sorted(ids))}")
    return await client.session_timeline(ids.pop())


def make_console() -> Console:
    """Return a console that is wide where nobody looks at it."""
    console = Console(markup=False, highlight=False)
    return console if console.is_terminal else Console(markup=False, highlight=False, width=WIDE)


def list_as_dict(listed: SessionList) -> dict[str, Any]:
    """Return sessions and missing cells as JSON has them."""
    return asdict(listed, dict_factory=_plain)


def timeline_as_dict(timeline: SessionTimeline) -> dict[str, Any]:
    """Return a session and its rounds as JSON has them."""
    return asdict(timeline, dict_factory=_plain)


def _plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value.name.lower() if isinstance(value, Enum) else value for name, value in pairs}


def print_json(value: dict[str, Any]) -> None:
    """Print one document."""
    print(json.dumps(value, indent=2))
