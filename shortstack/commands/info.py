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


def command(
    target: options.Target = None,
    api_key: options.ApiKey = None,
    ca: options.Ca = None,
    as_json: options.AsJson = False,
) -> None:
    """Show cells, model, pool and counters."""
    run_command(show(Destination(target, None, api_key, ca), as_json))


async def show(destination: Destination, as_json: bool) -> None:
    """Ask the gateway and every cell behind it, and print the answers."""
    target = await find_gateway(destination)
    if not target:
        raise CommandError(f"no gateway answers at {LOCAL_GATEWAY}; name one with --target")
    async with Client(target, destination.access) as client:
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
    """Show how the cells are built, how full they are, what speculation did: one column each."""
    table = Table("", *(info.cell_id for info in infos))
    columns = [
        {"address": f"{info.address}: cannot be reached from here"}
        if isinstance(info, pb.CellInfo)
        else describe(info)
        for info in infos
    ]
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(column.get(name, "") for column in columns))
    return table


def describe(info: pb.GetVerifyInfoResponse) -> dict[str, str]:
    """Return what there is to tell of a cell."""
    pool, counts, defaults = (
        info.pool,
        summary_from_proto(info.speculation),
        info.default_speculation,
    )
    return {
        "kind": f"{info.cell_kind}, {info.transport}" + (", draining" * info.is_draining),
        "worker": f"{info.worker_id}, build {info.build}",
        "draft workers": str(info.num_draft_workers),
        "default": f"{defaults.method}, exit layer {defaults.exit_layer},"
        f" draft length {defaults.max_draft_len}",
        **describe_draft_vocab(info),
        **describe_exit_adapters(info),
        **describe_acceptance_heads(info),
        **describe_draft_adapters(info),
        "sessions": f"{info.num_sessions} of {info.max_sessions}",
        "pages": f"{pool.num_used} used, {pool.num_cached} cached,"
        f" {pool.num_quarantined} set aside, {pool.num_free} free"
        f" (of {info.page_size} positions)",
        "prompt tokens": describe_prefixes(info.counters),
        "preemptions": str(info.counters.num_preemptions),
        "passes": str(info.counters.num_passes),
        "drafts": f"{counts.num_drafts}, {info.counters.num_fenced_rounds} abandoned,"
        f" {info.counters.num_shed_rounds} rounds without for the load",
        "acceptance": f"{counts.acceptance_rate:.2f}",
        "mean emitted length": f"{counts.mean_emitted_len:.2f}",
    }


def describe_prefixes(counters: pb.WorkCounters) -> str:
    """Say how much of all prompts came from the prefix cache."""
    queried, hit = counters.num_prefix_tokens_queried, counters.num_prefix_tokens_hit
    share = f" ({hit / queried:.0%})" if queried else ""
    return f"{queried}, {hit} from the prefix cache{share}"


def describe_draft_vocab(info: pb.GetVerifyInfoResponse) -> dict[str, str]:
    """Return the line of a draft vocabulary; without one there is none to show."""
    if not info.HasField("draft_vocab"):
        return {}
    vocab = info.draft_vocab
    share = f"{vocab.num_tokens} of {info.model.vocab_size} tokens"
    return {"draft vocabulary": f"{share}, coverage {vocab.coverage:.3f}"}


def describe_exit_adapters(info: pb.GetVerifyInfoResponse) -> dict[str, str]:
    """Return the line of exit adapters; without any there is none to show."""
    if not info.HasField("exit_adapters"):
        return {}
    exits = ", ".join(map(str, info.exit_adapters.exit_layers))
    return {"exit adapters": f"rank {info.exit_adapters.rank}, at exits {exits}"}


def describe_acceptance_heads(info: pb.GetVerifyInfoResponse) -> dict[str, str]:
    """Return the line of acceptance heads; without any there is none to show."""
    if not info.HasField("acceptance_heads"):
        return {}
    heads = info.acceptance_heads
    exits = ", ".join(map(str, heads.exit_layers))
    return {"acceptance heads": f"width {heads.width}, at exits {exits}"}


def describe_draft_adapters(info: pb.GetVerifyInfoResponse) -> dict[str, str]:
    """Return the line of draft adapters; without any there is none to show."""
    if not info.draft_adapters:
        return {}
    exits = ", ".join(
        f"{each.exit_layer} ({each.num_parameters:,} weights)" for each in info.draft_adapters
    )
    return {"draft adapters": f"at exits {exits}"}
