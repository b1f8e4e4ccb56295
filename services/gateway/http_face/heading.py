"""What answers and each of their chunks begin with."""

import json
import secrets
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Self

NUM_FINGERPRINT_CHARS = 12
BUILD = version("shortstack-serve")


@dataclass(frozen=True, slots=True)
class Heading:
    """The fields that do not change within an answer."""

    fields: dict[str, Any]

    @classmethod
    def make(cls, id_prefix: str, name: str, model_name: str, model_fingerprint: str) -> Self:
        """Return the heading of a new answer.

        Args:
            id_prefix: what the answer's id begins with.
            name: of the object.
            model_name: as it is served.
            model_fingerprint: empty where it is not known.
        """
        return cls(
            {
                "id": id_prefix + secrets.token_hex(12),
                "object": name,
                "created": int(time.time()),
                "model": model_name,
                "system_fingerprint": system_fingerprint(model_fingerprint),
            }
        )

    def open_json(self) -> str:
        """Return the fields as a JSON object that is not closed."""
        return json.dumps(self.fields, separators=(",", ":")).removesuffix("}")


def system_fingerprint(model_fingerprint: str) -> str:
    """Return what changes with the model's weights or with the software."""
    known = model_fingerprint[:NUM_FINGERPRINT_CHARS]
    return f"{known}-{BUILD}" if known else BUILD
