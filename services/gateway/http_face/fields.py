"""Types of which request bodies are made: strict, bounded, and clear about what is refused.

`"5"` is no number; `null` means absent. What this server does not do is refused by name, unless it
is asked for in its harmless form. Lists end at their first fault, so that a hostile body does not
cost an error for each of its entries.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from services.gateway.http_face.errors import CONFLICT, TOO_MANY_FIELDS, UNSUPPORTED

MAX_FIELDS = 100
MAX_BIASES = 4096
MAX_NAME_CHARS = 256


def _is_unicode(text: str) -> str:
    # JSON can escape half of a surrogate pair, which no encoder takes.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError(
            "text", "must be valid Unicode; it holds half a surrogate pair"
        ) from None
    return text


Text = Annotated[str, AfterValidator(_is_unicode)]
UInt32 = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[Text, Field(max_length=MAX_NAME_CHARS)]
Ids = Annotated[list[UInt32], Field(fail_fast=True)]
Texts = Annotated[list[Text], Field(fail_fast=True)]


def refuse(why: str, *harmless: object) -> BeforeValidator:
    """Return what refuses a field unless it is absent or says what is so anyway."""

    def check(value: object) -> None:
        if value is not None and value not in harmless:
            raise PydanticCustomError(UNSUPPORTED, "is not supported: {why}", {"why": why})

    return BeforeValidator(check)


NO_TOOLS = "this server calls no tools"
TEXT_ONLY = "this server reads and writes text only"
NoTools = Annotated[None, refuse(NO_TOOLS, [])]
NoToolChoice = Annotated[None, refuse(NO_TOOLS, "none")]
NoFormat = Annotated[
    None, refuse("output is not constrained; leave it out or say text", {"type": "text"})
]
TextOnly = Annotated[None, refuse(TEXT_ONLY, ["text"])]
NoReasoning = Annotated[None, refuse("the model does not reason apart from its text", "none")]
NoSuffix = Annotated[None, refuse("text is written at the end only", "")]
NoBestOf = Annotated[None, refuse("all choices are returned; use n", 1)]
NoPrediction = Annotated[None, refuse("drafts are made by the model itself")]
NoSearch = Annotated[None, refuse("this server searches nothing")]
NoName = Annotated[None, refuse("the chat template has no place for names")]


def has_few_biases(value: Any) -> Any:
    """Check a bias by token before its entries are looked at."""
    if isinstance(value, dict) and len(value) > MAX_BIASES:
        raise PydanticCustomError(UNSUPPORTED, f"holds more than {MAX_BIASES} entries")
    return value


def conflict(field: str, message: str) -> PydanticCustomError:
    """Return the fault of fields that contradict each other; one of them is named for all."""
    return PydanticCustomError(CONFLICT, "{message}", {"field": field, "message": message})


class Body(BaseModel):
    """An object of a request; an unknown field is a fault."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, data: Any) -> Any:
        if isinstance(data, dict) and len(data) > MAX_FIELDS:
            raise PydanticCustomError(TOO_MANY_FIELDS, f"has more than {MAX_FIELDS} fields")
        return data
