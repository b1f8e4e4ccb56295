"""Synthetic models: the agreement wished for, files that others load, a card that says so."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from shortstack.bench.shapes import ModelShape
from shortstack.bench.synth import NUM_CHECK_TOKENS, SynthReport, SynthSpec, write_synthetic_model
from shortstack.bench.words import EOS_ID, first_word_id

TINY = ModelShape(4, 64, 128, 4, 2, vocab_size=512)
SPEC = SynthSpec(TINY, agreement=0.8, at_layer=2, seed=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SynthReport]:
    folder = tmp_path_factory.mktemp("synthetic")
    return folder, write_synthetic_model(folder, SPEC)


def test_the_agreement_is_near_the_wish(made: tuple[Path, SynthReport]) -> None:
    _, report = made
    assert report.agreement == pytest.approx(SPEC.agreement, abs=0.04)


def test_deeper_exits_agree_no_less(made: tuple[Path, SynthReport]) -> None:
    _, report = made
    assert report.agreement_by_exit[2] >= report.agreement_by_exit[1] - 0.02
    assert report.agreement_by_exit[3] == 1.0


def test_the_text_does_not_loop(made: tuple[Path, SynthReport]) -> None:
    _, report = made
    # 256 draws from 252 words: text without order repeats words, a loop would have far fewer.
    assert report.distinct_ratio > 0.25


def test_transformers_loads_it_and_generates_words_without_an_end(
    made: tuple[Path, SynthReport],
) -> None:
    folder, _ = made
    model = LlamaForCausalLM.from_pretrained(folder)
    assert sum(parameter.numel() for parameter in model.parameters()) == TINY.num_params
    prompt = torch.tensor([[300, 301, 302]])
    text = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=64,
        do_sample=False,
        pad_token_id=EOS_ID,
    )[0, 3:]
    assert len(text) == 64
    assert int(text.min()) >= first_word_id(TINY.vocab_size)


def test_the_measured_rate_holds_on_other_text(made: tuple[Path, SynthReport]) -> None:
    folder, report = made
    model = LlamaForCausalLM.from_pretrained(folder)
    generator = torch.Generator().manual_seed(7)
    text = torch.randint(first_word_id(512), 512, (16, 64), generator=generator)
    with torch.no_grad():
        output = model(text, output_hidden_states=True)
        exit_logits = model.lm_head(model.model.norm(output.hidden_states[SPEC.at_layer]))
    rate = (exit_logits.argmax(-1) == output.logits.argmax(-1)).float().mean().item()
    assert rate == pytest.approx(report.agreement, abs=0.08)


def test_auto_tokenizer_loads_the_tokenizer(made: tuple[Path, SynthReport]) -> None:
    folder, _ = made
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == TINY.vocab_size
    assert tokenizer.eos_token_id == EOS_ID


def test_the_card_says_that_it_is_synthetic_and_what_was_measured(
    made: tuple[Path, SynthReport],
) -> None:
    folder, report = made
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "**This model is synthetic.**" in card
    assert f"measured **{report.agreement:.3f}**" in card
    assert "end-of-sequence" in card
    numbers = json.loads((folder / "synthetic.json").read_text(encoding="utf-8"))
    assert numbers["agreement_by_exit"] == list(report.agreement_by_exit)
    assert report.num_check_tokens == 8 * NUM_CHECK_TOKENS


def test_equal_seeds_give_equal_weights(tmp_path: Path, made: tuple[Path, SynthReport]) -> None:
    folder, _ = made
    write_synthetic_model(tmp_path, SPEC)
    first, second = (LlamaForCausalLM.from_pretrained(path) for path in (folder, tmp_path))
    for left, right in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize(
    ("spec", "option"),
    [
        (SynthSpec(TINY, 1.0, 2), "--agreement"),
        (SynthSpec(TINY, 0.0, 2), "--agreement"),
        (SynthSpec(TINY, 0.8, 0), "--at-layer"),
        (SynthSpec(TINY, 0.8, 4), "--at-layer"),
        (SynthSpec(TINY, 0.8, 2, dtype="int8"), "--dtype"),
    ],
)
def test_wishes_that_make_no_sense_name_their_option(
    tmp_path: Path, spec: SynthSpec, option: str
) -> None:
    with pytest.raises(ValueError, match=option):
        write_synthetic_model(tmp_path, spec)
    assert not list(tmp_path.iterdir())
