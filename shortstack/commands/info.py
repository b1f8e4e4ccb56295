"""`shortstack info`: the models and cells behind a gateway, their pools and counters."""

import asyncio
import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.table import Table

from shared.errors import ShortstackError
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.convert import summary_from_proto
from shortstack import options
from shortstack.client import Client
from shortstack.connect import LOCAL_GATEWAY, Destination, find_gateway
from shortstack.errors import CommandError
from shortstack.health import verify_info
from shortstack.running import run_command


def command(target: options.Target = None, as_json: options.AsJson = False) -> None:
    """Show cells, model, pool and counters."""
    run_command(show(Destination(target), as_json))


async def show(destination: Destination, as_json: bool) -> None:
    """Ask the gateway and every cell behind it, and print the answers."""
    target = await find_gateway(destination)
    if not target:
        raise CommandError(f"no gateway answers at {LOCAL_GATEWAY}; name one with --target")
    async with Client(target) as client:
        served = await client.models()
    infos = await asyncio.gather(*(ask(cell) for cell in served.cells))
    if as_json:
        cells = [as_dict(info) for info in infos]
        models = [as_dict(model) for model in served.models]
        print(json.dumps({"target": target, "models": models, "cells": cells}, indent=2))
        return
    console = Console()
    console.print(models_table(served))
    console.print(cells_table(list(infos)))


async def ask(cell: pb.CellInfo) -> pb.GetVerifyInfoResponse | pb.CellInfo:
    """Ask a cell's verify worker; where it cannot be reached, tell what the gateway knows."""
    try:
        return await verify_info(cell.address)
    except ShortstackError:
        return cell


def as_dict(message: Any) -> dict[str, Any]:
    """Return a message with all its fields, named as in the contract."""
    fields: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return fields


def models_table(served: pb.ListModelsResponse) -> Table:
    """List the models."""
    table = Table("model", "type", "dtype", "layers", "hidden", "vocabulary", "context")
    for model in served.models:
        sizes = (model.num_layers, model.hidden_size, model.vocab_size, model.max_context_len)
        table.add_row(model.model_name, model.model_type, model.dtype, *map(str, sizes))
    return table


def cells_table(infos: list[pb.GetVerifyInfoResponse | pb.CellInfo]) -> Table:
    """List the cells: how they are built, how full they are, what speculation did."""
    table = Table(
        "cell", "kind", "drafters", "sessions", "pages free/used/set aside", "passes",
        "acceptance", "mean emitted",
    )  # fmt: skip
    for info in infos:
        if isinstance(info, pb.CellInfo):
            table.add_row(info.cell_id, f"{info.address} cannot be reached from here")
        else:
            table.add_row(*cell_row(info))
    return table


def cell_row(info: pb.GetVerifyInfoResponse) -> list[str]:
    """Return the row of a cell."""
    pool, counts = info.pool, summary_from_proto(info.speculation)
    return [
        info.cell_id,
        f"{info.cell_kind} ({info.transport})" + (", draining" if info.is_draining else ""),
        str(info.num_draft_workers),
        f"{info.num_sessions}/{info.max_sessions}",
        f"{pool.num_free}/{pool.num_used}/{pool.num_quarantined} of {pool.num_pages}",
        str(info.counters.num_passes),
        f"{counts.acceptance_rate:.2f}",
        f"{counts.mean_emitted_len:.2f}",
    ]
