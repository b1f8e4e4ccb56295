"""Task streams on their way to the control store and from there.

engine's thread   want, keep          never wait
event loop        reads, and posts what it read to the engine; what is to be written waits in
                  the store's traffic, the last record of every stream
"""

import asyncio
import logging
from collections.abc import Callable

from services.verify.events import AdoptStream
from services.verify.store_traffic import StoreTraffic
from shared.control.skip_search.search_options import SearchOptions
from shared.control.skip_search.stream_record import StreamRecord
from shared.control.store.keys import model_key, stream_key
from shared.speculation.vocabulary import SWIFT

log = logging.getLogger(__name__)


class StreamLink:
    """One cell's.

    read_drafting: names whatever drafts are made with besides the model.
    """

    def __init__(
        self,
        traffic: StoreTraffic,
        options: SearchOptions,
        read_drafting: Callable[[], str],
        loop: asyncio.AbstractEventLoop,
        post: Callable[[AdoptStream], None],
    ) -> None:
        self._traffic = traffic
        self._options = options
        self._read_drafting = read_drafting
        self._loop = loop
        self._post = post
        self._names: dict[str, str] = {}
        traffic.streams.on_behind = self._read_again

    # --- the engine's thread --------------------------------------------------------------------

    def want(self, name: str) -> None:
        """Ask for a stream's record."""
        self._loop.call_soon_threadsafe(self._read, name)

    def keep(self, name: str, record: StreamRecord) -> None:
        """Let a stream's record be written."""
        text = record.to_json(self._options.num_layers)
        self._loop.call_soon_threadsafe(self._put, name, record.num_evaluations_ever, text)

    # --- the event loop -------------------------------------------------------------------------

    def _key(self, name: str) -> str:
        # Sets of another ratio are of no use here.
        kind = f"{self._options.num_skipped} skipped"
        facts = self._traffic.facts
        mk = model_key(facts.model_fingerprint, SWIFT, self._read_drafting(), kind)
        key = stream_key(mk, *name.split("\0")) if name else stream_key(mk)
        self._names[key] = name
        return key

    def _put(self, name: str, num_evaluations: int, text: str) -> None:
        self._traffic.streams.put(self._key(name), num_evaluations, text)

    def _read(self, name: str) -> None:
        self._traffic.spawn(self._fetch(name, self._key(name)))

    def _read_again(self, key: str) -> None:
        """Read what another cell has found out meanwhile."""
        self._traffic.spawn(self._fetch(self._names[key], key))

    async def _fetch(self, name: str, key: str) -> None:
        text = await self._traffic.store.read_stream(key)
        if text is None:
            return
        options = self._options
        try:
            record = StreamRecord.from_json(text, options.num_layers, options.num_skipped)
        except ValueError as error:
            log.warning("a task stream's record cannot be read", extra={"error": str(error)})
            return
        self._post(AdoptStream(name, record))
