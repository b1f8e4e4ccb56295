"""docker-compose.yml as Compose reads it, filled in with .env; commands are the Dockerfiles'."""

import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

REPOSITORY = Path(__file__).resolve().parents[1]
ENV_FILE = REPOSITORY / ".env"
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_UNIT_BYTES = {"m": 1 << 20, "g": 1 << 30}
_UNIT_S = {"s": 1, "m": 60}


class ComposeFile:
    """The compose file with every value in place."""

    def __init__(self) -> None:
        """Read both files."""
        self.values = {name: text or "" for name, text in dotenv_values(ENV_FILE).items()}
        self.text = (REPOSITORY / "docker-compose.yml").read_text()

    @cached_property
    def document(self) -> dict[str, Any]:
        """The whole file; a variable that .env lacks is a KeyError."""
        filled: dict[str, Any] = yaml.safe_load(filled_in(self.text, self.values))
        return filled

    @property
    def services(self) -> dict[str, Any]:
        """Every service by name, whatever its profiles."""
        services: dict[str, Any] = self.document["services"]
        return services

    @property
    def variables(self) -> set[str]:
        """Names that the compose file is filled in with."""
        return set(_VARIABLE.findall(self.text))

    def environment(self, name: str) -> dict[str, str]:
        """Return what a service of ours is started with: .env, then what the file says."""
        service = self.services[name]
        assert service["env_file"] == ENV_FILE.name
        return self.values | {key: str(value) for key, value in service["environment"].items()}

    def command(self, name: str) -> list[str]:
        """Return the command of a service of ours, which is its image's."""
        text = self.dockerfile(name)
        (line,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
        words: list[str] = json.loads(line)
        return words

    def dockerfile(self, name: str) -> str:
        """Return the text of a service's Dockerfile."""
        return (REPOSITORY / self.services[name]["build"]["dockerfile"]).read_text()

    def health_command(self, name: str) -> list[str]:
        """Return the words of a service's health check."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return [str(word) for word in words]


def filled_in(text: str, values: Mapping[str, object]) -> str:
    """Put values in the place of ${NAME}."""
    return _VARIABLE.sub(lambda found: str(values[found[1]]), text)


def size_bytes(text: str) -> int:
    """Return the bytes of `512m` or `2g`."""
    return int(text[:-1]) * _UNIT_BYTES[text[-1]]


def duration_s(text: str) -> int:
    """Return the seconds of `45s` or `2m`."""
    return int(text[:-1]) * _UNIT_S[text[-1]]
