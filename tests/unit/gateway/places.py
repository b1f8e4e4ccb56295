"""A place at admission, for as long as a block of a test lasts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.gateway.admission import Admission, Claim, Place


@asynccontextmanager
async def place_at(admission: Admission, claim: Claim) -> AsyncIterator[Place]:
    """Hold a place."""
    place = await admission.enter(claim)
    try:
        yield place
    finally:
        admission.leave(place)
