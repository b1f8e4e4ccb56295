"""A split cell whose workers call each other over the network: by role, or not at all."""

from pathlib import Path

import pytest

from shared.access.certificate_authority import ROLE_URI, CertificateAuthority
from shared.model.layer_stack import LayerStack, load_stack
from shared.rpc.credentials import PortSecurity
from tests.contract.hosts import DraftHost, free_tcp_address
from tests.contract.tls import HOST, options_of
from tests.contract.verify.conftest import StartWorker, generate, ids_of, make_request
from tests.contract.verify.test_split_cell import speculation_is
from tests.polling import poll_until


@pytest.mark.parametrize("role", ["verify", "gateway"])
async def test_only_a_verify_worker_gets_its_memory_mapped(
    start_worker: StartWorker,
    stack: LayerStack,
    tmp_path: Path,
    authority: CertificateAuthority,
    role: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    address = free_tcp_address()
    port = PortSecurity(
        authority.issue("draft", [HOST], role="draft"), callers=frozenset({ROLE_URI + "verify"})
    )
    draft_stack = load_stack(stack.config.path, num_layers=1)
    draft = await DraftHost(draft_stack, tmp_path, address, security=port).start()
    own = options_of(authority.issue("own", [], role=role))
    host = await start_worker(cell_kind="split", draft_target=address, **own)
    if role == "verify":
        await speculation_is(host, "SERVING")
    else:
        await poll_until(lambda: "attach failed" in caplog.text)
        assert ROLE_URI + "verify" in str(caplog.records[-1].__dict__["error"])
    messages = await generate(host, make_request([5, 17, 60, 33], 20))
    assert len(ids_of(messages)) == 20
    assert bool(messages[-1].finished.speculation.num_drafts) == (role == "verify")
    await draft.stop()
