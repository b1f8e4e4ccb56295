"""Acceptance heads: what they learn, from a model that stays as it is to the last bit."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from rich.console import Console
from transformers import TrainerCallback

from shared.model.acceptance_head_file import FOLDER, parts_of
from shared.model.acceptance_heads import AcceptanceHeads
from shared.model.config import read_config as read_model_config
from shared.model.exit_adapter_file import write_exit_adapters
from shared.model.exit_reader import ExitReader
from shared.model.layer_stack import LayerStack
from tests.adapter_builder import make_adapters
from tests.training_runs import ROW_LEN, continued_values, sources, write_base
from training.acceptance.head import HeadsOfModel
from training.acceptance.looks import Looks, look
from training.acceptance.loss import head_losses
from training.acceptance.own_text import continuations, end_ids_of
from training.acceptance.run import Run, finish, install, set_up, train
from training.acceptance.scores import ALL, auc, calibration
from training.config import AcceptanceRun, checked
from training.errors import TrainingError
from training.models import load_model
from training.rows import IGNORED
from training.sections import AcceptanceSection

QUIET = Console(quiet=True)
EXITS = [1, 3]
DRAWS = torch.Generator().manual_seed(2)
SECTION = AcceptanceSection(exits=EXITS, width=5, prompt_len=4, own_rows=8, dropout=0.0)


def values_of(base: Path, **changes: Any) -> dict[str, Any]:
    """A run of heads at two exits, on running text."""
    section = SECTION.model_dump(mode="json") | changes.pop("acceptance", {})
    changes = {"acceptance": section, "data": {"sources": sources(tasks=0)}} | changes
    values = continued_values(base, **changes)
    del values["recipe"]
    return values | {"model": {"path": str(base)}}


def run_of(values: dict[str, Any], data: Path, out: Path) -> Run:
    return set_up(checked(values, "of the test", AcceptanceRun), data, out, QUIET)


def learner_of(base: Path, section: AcceptanceSection = SECTION) -> HeadsOfModel:
    """Fresh heads of a tiny model."""
    return HeadsOfModel(load_model(str(base)), EXITS, section, None, seed=3)


def scattered(model: HeadsOfModel) -> HeadsOfModel:
    """The same with weights and features' statistics as after some training."""
    generator = torch.Generator().manual_seed(4)
    for tensor in model.heads.state_dict().values():
        tensor.add_(0.2 * torch.rand(tensor.shape, generator=generator) - 0.1)
    return model


# --- the head -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype_name", ["float32", "bfloat16"])
def test_what_is_served_says_what_was_trained(base: Path, dtype_name: str) -> None:
    section = SECTION.model_copy(update={"store_dtype": dtype_name})
    model = scattered(learner_of(base, section))
    served = model.served("some")
    ids = torch.arange(2 * ROW_LEN).view(2, -1)
    looks = look(model, ids, torch.ones(2, ROW_LEN), DRAWS)
    for each, seen in looks.items():
        expected = torch.sigmoid(model.head(each)(seen.features(model), seen.gaps_R))
        a_RD, b_RD = (model.rows_of(ids_R) for ids_R in seen.pairs_R2.unbind(-1))
        assert seen.temperatures_R.any() and not seen.temperatures_R.all()
        seen_of = (seen.z_RD, a_RD, b_RD, seen.gaps_R, seen.temperatures_R)
        found = served.by_exit[each](*seen_of)
        exact = dtype_name == "float32"
        torch.testing.assert_close(found, expected, atol=1e-6 if exact else 0.05, rtol=1e-4)
        for part in parts_of(served.by_exit[each]):
            assert torch.equal(part, part.to(getattr(torch, dtype_name)).float())


def test_a_temperature_that_never_varied_says_nothing(base: Path) -> None:
    model = scattered(learner_of(base))
    head = model.head(1)
    features_RF = torch.randn(50, len(head.mean_F))
    features_RF[:, -1] = 0.0
    head.standardise(features_RF)
    served = head.folded()
    assert not served.down_MF[:, -1].any() and served.down_MF[:, :-1].all()


def test_values_that_the_stored_type_cannot_hold_are_told(base: Path) -> None:
    model = learner_of(base)
    with torch.no_grad():
        model.head(3).scale_step.fill_(1e6)
    with pytest.raises(TrainingError, match="exit 3 has values beyond float16; set acceptance"):
        model.served("some")


def test_standardised_features_have_mean_0_and_deviation_1(
    base: Path, data: Path, out: Path
) -> None:
    model = run_of(values_of(base), data, out).trainer.heads
    head = model.head(1)
    features_RF = 7 * torch.randn(400, len(head.mean_F)) + 3
    features_RF[:, 0] = 2.5
    head.standardise(features_RF)
    standard_RF = (features_RF - head.mean_F) / head.deviation_F
    torch.testing.assert_close(
        standard_RF.mean(0), torch.zeros(len(head.mean_F)), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        standard_RF[:, 1:].std(0, correction=0), torch.ones(len(head.mean_F) - 1)
    )


# --- looks and loss -------------------------------------------------------------------------------


def test_greedy_looks_are_the_exits_own_and_agree_with_the_last_layer(base: Path) -> None:
    model = learner_of(base, SECTION.model_copy(update={"greedy_share": 1.0}))
    ids = torch.arange(3, 3 + 2 * ROW_LEN).view(2, ROW_LEN)
    looks = look(model, ids, ids, DRAWS)
    found = model.base(ids, output_hidden_states=True)
    for each, seen in looks.items():
        assert not seen.temperatures_R.any()
        z_RD = model.base.model.norm(found.hidden_states[each]).flatten(0, 1)
        logits_RV = model.base.lm_head(z_RD)
        top = logits_RV.topk(2, -1)
        torch.testing.assert_close(seen.z_RD, z_RD)
        assert torch.equal(seen.pairs_R2, top.indices)
        torch.testing.assert_close(seen.gaps_R, top.values[:, 0] - top.values[:, 1])
        torch.testing.assert_close(seen.probabilities_R, F.softmax(logits_RV, -1).amax(-1))
        chosen_R = found.logits.flatten(0, 1).argmax(-1)
        assert torch.equal(seen.agrees_R, top.indices[:, 0] == chosen_R)


def test_sampled_looks_share_their_noise_and_give_gaps_in_units_of_logits(base: Path) -> None:
    """Where no exit says anything, only noise chooses; gaps are those of T times noise."""
    section = SECTION.model_copy(update={"greedy_share": 0.0, "min_temperature": 0.5})
    model = learner_of(base, section)
    model.base.model.norm.weight.zero_()
    ids = torch.randint(3, 300, (64, ROW_LEN), generator=torch.Generator().manual_seed(1))
    looks = look(model, ids, ids, DRAWS)
    first, second = looks.values()
    temperatures_R = first.temperatures_R
    assert torch.equal(temperatures_R, second.temperatures_R)
    assert temperatures_R.min() >= 0.5 and temperatures_R.max() <= 1.0
    assert first.agrees_R.all() and second.agrees_R.all()
    assert torch.equal(first.pairs_R2, second.pairs_R2)
    # The gap of the two best of many noises is exponential, with a mean of T.
    assert (first.gaps_R / temperatures_R).mean().item() == pytest.approx(1.0, abs=0.1)
    assert len(first.pairs_R2[:, 0].unique()) > 100


def test_the_loss_is_binary_cross_entropy_at_the_positions_that_count(base: Path) -> None:
    model = scattered(learner_of(base, SECTION.model_copy(update={"greedy_share": 1.0})))
    ids = torch.arange(3, 3 + 2 * ROW_LEN).view(2, ROW_LEN)
    labels = torch.full_like(ids, IGNORED)
    labels[1, 4:7] = ids[1, 5:8]
    seen_at = Looks(model, keeps=False)(ids, labels)
    found = head_losses(model, seen_at)
    every = look(model, ids, ids, DRAWS)
    own = slice(ROW_LEN + 4, ROW_LEN + 7)
    for each, seen in every.items():
        logits_R = model.head(each)(seen.features(model), seen.gaps_R)[own]
        told_R = F.logsigmoid(torch.where(seen.agrees_R[own], logits_R, -logits_R))
        torch.testing.assert_close(found["exit_losses"][each], -told_R.mean().detach())
    torch.testing.assert_close(found["loss"], sum(found["exit_losses"].values()))
    halved = head_losses(model, seen_at, num_items=6)
    torch.testing.assert_close(halved["loss"], found["loss"] / 2)
    found["loss"].backward()
    assert not any(weight.requires_grad for weight in model.base.parameters())
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


def test_what_was_said_of_rows_that_come_again_is_kept(base: Path) -> None:
    model = learner_of(base)
    ids = torch.arange(3, 3 + 2 * ROW_LEN).view(2, ROW_LEN)
    looks = Looks(model, keeps=True)
    first = looks(ids, ids)
    model.base.model.norm.weight.zero_()
    for each, seen in looks(ids, ids).items():
        torch.testing.assert_close(
            seen.features(model), first[each].features(model), rtol=1e-3, atol=1e-3
        )
        assert torch.equal(seen.gaps_R, first[each].gaps_R)
    assert not looks(ids + 1, ids)[EXITS[0]].z_RD.any()


def test_exits_are_read_through_the_adapters_beside_the_model(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    config = read_model_config(base)
    adapters = make_adapters(config, (EXITS[0],))
    model = HeadsOfModel(load_model(str(base)), EXITS, SECTION, adapters, seed=3)
    x_RD = torch.randn(7, config.hidden_size)
    norm = model.base.model.norm
    adapted_RD = adapters.by_exit[EXITS[0]](x_RD)
    torch.testing.assert_close(model.read(x_RD, EXITS[0]), norm(adapted_RD))
    torch.testing.assert_close(model.read(x_RD, EXITS[1]), norm(x_RD))


# --- scores ---------------------------------------------------------------------------------------


def test_auc_counts_pairs_and_ties_half() -> None:
    chances = torch.tensor([0.1, 0.4, 0.4, 0.8])
    agrees = torch.tensor([False, True, False, True])
    assert auc(chances, agrees) == pytest.approx(3.5 / 4)
    assert auc(chances, ~agrees) == pytest.approx(0.5 / 4)
    assert auc(chances, torch.ones(4, dtype=torch.bool)) == 0.5


def test_calibration_compares_what_was_told_and_seen_in_ten_parts() -> None:
    chances = torch.arange(20) / 20
    agrees = (torch.arange(20) % 2).float()
    found = calibration(chances.flip(0), agrees.flip(0))
    assert len(found) == 10
    assert found[0] == pytest.approx((0.025, 0.5))
    assert found[-1] == pytest.approx((0.925, 0.5))
    assert len(calibration(chances[:3], agrees[:3])) == 3


# --- the model's own text -------------------------------------------------------------------------


def test_the_model_goes_on_from_prompts_of_any_length_as_it_does_from_each_alone(
    base: Path,
) -> None:
    model = load_model(str(base))
    prompts = [[5, 6, 7], [9, 10, 11, 12, 13], [4]]
    found = continuations(model, prompts, ROW_LEN, None)
    for prompt, example in zip(prompts, found, strict=True):
        text = list(prompt)
        while len(text) < ROW_LEN and not (
            len(text) > len(prompt) and text[-1] in end_ids_of(model)
        ):
            text.append(int(model(torch.tensor([text])).logits[0, -1].argmax()))
        assert [*example.prompt, *example.completion] == text


def test_what_follows_an_end_is_no_text_of_the_models(base: Path) -> None:
    model = load_model(str(base))
    [plain] = continuations(model, [[5, 6, 7]], ROW_LEN, None)
    model.generation_config.eos_token_id = plain.completion[3]
    [ended] = continuations(model, [[5, 6, 7]], ROW_LEN, None)
    first = list(plain.completion).index(plain.completion[3])
    assert list(ended.completion) == list(plain.completion[: first + 1])


def test_rows_have_temperatures_of_their_own(base: Path) -> None:
    """Next to 0 a sample is the greedy text; far above 1 it is any text."""
    model = load_model(str(base))
    prompts = [[5, 6, 7]] * 3
    [plain, *_] = continuations(model, prompts, ROW_LEN, None)
    cold, also_cold, hot = continuations(
        model, prompts, ROW_LEN, torch.tensor([[1e-4], [1e-4], [50.0]])
    )
    assert cold.completion == also_cold.completion == plain.completion
    assert hot.completion != plain.completion


def test_own_rows_are_written_once_and_only_what_the_model_wrote_counts(
    base: Path, data: Path, out: Path
) -> None:
    values = values_of(base, data={"sources": sources(tasks=0.25)})
    run = run_of(values, data, out)
    mixture = run.trainer.train_dataset
    assert list(mixture.sources) == ["words", "tasks", "words-own", "tasks-own"]
    assert mixture.shares == [0.375, 0.125, 0.375, 0.125]
    assert set(run.trainer.held_out) == set(mixture.sources)
    own = mixture.sources["words-own"]
    for row in own.spread(8, ROW_LEN):
        assert (row["labels"][: SECTION.prompt_len - 1] == IGNORED).all()
        assert row["labels"][SECTION.prompt_len - 1] != IGNORED
    files = {path: path.stat().st_mtime_ns for path in (out / "own_text").iterdir()}
    assert len(files) == 4
    again = run_of(values, data, out).trainer.train_dataset
    assert {path: path.stat().st_mtime_ns for path in (out / "own_text").iterdir()} == files
    assert [again[index]["input_ids"].tolist() for index in range(8)] == [
        mixture[index]["input_ids"].tolist() for index in range(8)
    ]
    run_of(values | {"seed": 8}, data, out)
    assert len(list((out / "own_text").iterdir())) > 4


# --- runs -----------------------------------------------------------------------------------------


def test_a_run_tells_more_than_the_gap_and_leaves_the_model_alone(
    base: Path, data: Path, out: Path
) -> None:
    trainer = {"max_steps": 60, "learning_rate": 0.02}
    run = run_of(values_of(base, trainer=trainer), data, out)
    before = {name: each.clone() for name, each in run.trainer.heads.base.state_dict().items()}
    run.trainer.train()
    assert finish(run, 1.0, QUIET) == out / FOLDER
    for name, value in run.trainer.heads.base.state_dict().items():
        assert torch.equal(value, before[name]), name
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert set(report["scores"]) == {"words", "words-own", ALL}
    for mood in ("greedy", "sampled"):
        for each in map(str, EXITS):
            found = report["scores"][ALL][mood][each]["forecasts"]
            assert found["head"]["loss"] < found["gap"]["loss"]
            assert math.isfinite(found["probability"]["loss"])
    card = (out / FOLDER / "README.md").read_text(encoding="utf-8")
    assert "was not changed" in card and "| words-own | greedy | gap alone |" in card


def test_workers_find_what_was_written_and_read_the_same_states(
    tmp_path: Path, data: Path, out: Path
) -> None:
    base = write_base(tmp_path / "base")
    config = read_model_config(base)
    write_exit_adapters(make_adapters(config, (EXITS[0],)), base)
    run = run_of(values_of(base, acceptance={"own_share": 0}, trainer={"max_steps": 2}), data, out)
    run.trainer.train()
    folder = finish(run, 1.0, QUIET)
    assert folder is not None and config.find_acceptance_heads("auto") is None
    assert install(folder, base) == base / FOLDER
    served = run.trainer.served()
    for wish in ("auto", str(folder)):
        found = config.find_acceptance_heads(wish)
        assert isinstance(found, AcceptanceHeads) and found.exit_layers == tuple(EXITS)
        for each, head in found.by_exit.items():
            for part, expected in zip(parts_of(head), parts_of(served.by_exit[each]), strict=True):
                assert torch.equal(part, expected)
    stack = LayerStack(config, exit_adapters=config.find_exit_adapters("auto"))
    text = list(range(3, 3 + ROW_LEN + 1))
    reader = ExitReader(stack, len(text), through_adapters=True)
    tokens = {each: reader.read(text, 1)[each].tokens for each in EXITS}  # type: ignore[arg-type]
    run.trainer.heads.section = SECTION.model_copy(update={"greedy_share": 1.0})
    ids = torch.tensor([text[:-1]])
    looks = look(run.trainer.heads, ids, ids, DRAWS)
    assert {each: seen.pairs_R2[:, 0].tolist() for each, seen in looks.items()} == tokens


class Stop(TrainerCallback):
    """Ends a run after a step, as if it had been interrupted."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = state.global_step >= 4


@pytest.mark.parametrize("epoch_steps", [None, 2])
def test_a_resumed_run_ends_with_the_heads_of_an_unbroken_one(
    epoch_steps: int | None, base: Path, data: Path, out: Path
) -> None:
    values = values_of(
        base,
        acceptance={"dropout": 0.2, "epoch_steps": epoch_steps},
        trainer={"max_steps": 6, "save_strategy": "steps", "save_steps": 3},
    )
    unbroken = run_of(values, data, out.with_name("unbroken"))
    unbroken.trainer.train()
    run = run_of(values, data, out)
    run.trainer.add_callback(Stop())
    run.trainer.train()
    path = out.with_name("config.yaml")
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    folder = train(path, data, out, resume=True)
    found = read_model_config(base).find_acceptance_heads(str(folder))
    assert found is not None
    for each, head in unbroken.trainer.served().by_exit.items():
        for part, expected in zip(parts_of(found.by_exit[each]), parts_of(head), strict=True):
            assert torch.equal(part, expected)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"init": {"model_type": "llama"}}}, "needs model.path"),
        ({"model": {"path": "x", "store_dtype": "float32"}}, "leave model.store_dtype out"),
        ({"acceptance": {"exits": []}}, "acceptance.exits"),
        ({"acceptance": {"exits": [0]}}, r"acceptance\.exits\.0"),
        ({"acceptance": {"exits": [2, 2]}}, "names an exit twice"),
        ({"acceptance": {"width": 0}}, "acceptance.width"),
        ({"acceptance": {"min_temperature": 2.0}}, "min_temperature exceeds max_temperature"),
        ({"acceptance": {"prompt_len": ROW_LEN}}, "leaves nothing to go on with"),
        ({"acceptance": {"store_type": "float16"}}, "did you mean store_dtype"),
        ({"recipe": {"p_max": 0.1}}, "recipe is not known"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    changes: dict[str, Any], message: str, base: Path
) -> None:
    values = values_of(base) | {"tokenizer": {"path": str(base)}} | changes
    with pytest.raises(TrainingError, match=message) as raised:
        checked(values, "of the test", AcceptanceRun)
    assert "\n" not in str(raised.value)


def test_exits_and_adapters_that_the_model_lacks_are_refused(
    base: Path, data: Path, out: Path
) -> None:
    with pytest.raises(TrainingError, match="4 layers has no exit 4; its exits end at 3"):
        run_of(values_of(base, acceptance={"exits": [1, 4]}), data, out)
    with pytest.raises(TrainingError, match=r"acceptance\.exit_adapters: .* are not there"):
        run_of(values_of(base, acceptance={"exit_adapters": str(out)}), data, out)
