"""Chat templates are rendered as `transformers` renders them."""

import pytest

from services.gateway.chat import ChatTemplate, ChatTurn
from services.gateway.tokenizer import ModelTokenizer
from shared.errors import BadModel, InvalidRequest, Unsupported
from tests.tokenizer_builder import END, TEMPLATE, byte_level_tokenizer

TURNS = (ChatTurn("system", "Be brief."), ChatTurn("user", "Héllo <b>"))
LLAMA = (
    "{{- bos_token }}\n"
    "{%- for message in messages %}\n"
    "    {%- if loop.first and message.role != 'system' %}{{ raise_exception('no system') }}"
    "{%- endif %}\n"
    "    {{- '<' + message['role'] + '>' + message['content'] | trim + '</s>' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<assistant>' }}{%- endif %}\n"
)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (TEMPLATE, "<system>Be brief.\n<user>Héllo <b>\n<assistant>"),
        (LLAMA, "<s><system>Be brief.</s><user>Héllo <b></s><assistant>"),
        ("{{ messages[1] | tojson }}", '{"role": "user", "content": "Héllo <b>"}'),
        ("{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}x{% endfor %}", "x"),
        ("{% generation %}a{{ eos_token }}{% endgeneration %}b", "a</s>b"),
        ("{% set ns = namespace(n=0) %}{% set ns.n = 2 %}{{ ns.n }}", "2"),
        ("{{ tools is none }}{{ documents is none }}", "TrueTrue"),
        ("{% if true %}\n  {% if true %}\nx\n  {% endif %}\n{% endif %}", "x\n"),
    ],
)
def test_a_template_renders(source: str, expected: str) -> None:
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    assert ChatTemplate(source, tokens).render(TURNS) == expected


def test_a_template_that_refuses_the_turns_is_the_clients_fault() -> None:
    with pytest.raises(InvalidRequest, match="no system") as caught:
        ChatTemplate(LLAMA, {}).render([ChatTurn("user", "Hello")])
    assert caught.value.field == "chat"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(source: str) -> None:
    with pytest.raises(InvalidRequest):
        ChatTemplate(source, {}).render(TURNS)


def test_a_malformed_template_is_found_at_start() -> None:
    with pytest.raises(BadModel, match="compiled"):
        ChatTemplate("{% if %}", {})


def test_a_chat_is_encoded_without_further_special_tokens() -> None:
    tokenizer = byte_level_tokenizer()
    config = {"bos_token": END, "add_bos_token": True, "chat_template": "{{ bos_token }}x"}
    model = ModelTokenizer(tokenizer, config)
    assert tokenizer.decode(model.encode_chat(TURNS), skip_special_tokens=False) == END + "x"


def test_a_template_file_and_the_default_of_several_are_found() -> None:
    several = [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]
    tokenizer = byte_level_tokenizer()
    of_config = ModelTokenizer(tokenizer, {"chat_template": several})
    of_file = ModelTokenizer(tokenizer, {"chat_template": several}, "f")
    assert of_config.decode(of_config.encode_chat(TURNS)) == "d"
    assert of_file.decode(of_file.encode_chat(TURNS)) == "f"


def test_a_model_without_template_says_so() -> None:
    with pytest.raises(Unsupported, match="no chat template"):
        ModelTokenizer(byte_level_tokenizer(), {}).encode_chat(TURNS)
