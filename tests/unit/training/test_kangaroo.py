"""Draft adapters: what they learn, from a model that stays as it is to the last bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from rich.console import Console
from transformers import TrainerCallback

from shared.model.config import read_config as read_model_config
from shared.model.draft_adapter_file import FOLDER
from shared.model.exit_reader import ExitReader
from shared.model.layer_stack import LayerStack
from tests.training_runs import ROW_LEN, continued_values, sources, write_base
from training.config import KangarooRun, checked
from training.errors import TrainingError
from training.kangaroo.adapter import AdaptersOfModel
from training.kangaroo.loss import adapter_losses, soft_cross_entropy
from training.kangaroo.run import Run, finish, install, set_up, train
from training.kangaroo.scores import expected_agreement, score_adapters
from training.models import load_model
from training.rows import IGNORED

QUIET = Console(quiet=True)
EXITS = [1, 2]


def values_of(base: Path, **changes: Any) -> dict[str, Any]:
    """A run of adapters at two exits, on running text."""
    changes = {"draft_adapters": {"exits": EXITS}, "data": {"sources": sources(tasks=0)}} | changes
    values = continued_values(base, **changes)
    del values["recipe"]
    return values | {"model": {"path": str(base)}}


def run_of(values: dict[str, Any], data: Path, out: Path) -> Run:
    return set_up(checked(values, "of the test", KangarooRun), data, out)


@pytest.fixture
def learner(tmp_path: Path) -> AdaptersOfModel:
    """Fresh adapters of a tiny model."""
    run_base = write_base(tmp_path / "base")
    config = read_model_config(run_base)
    return AdaptersOfModel(load_model(str(run_base)), config.adapter_host.layout, EXITS, seed=3)


# --- loss -----------------------------------------------------------------------------------------


def test_the_loss_of_three_positions_is_its_closed_form() -> None:
    p_RV = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    q_RV = torch.tensor([[0.25, 0.5, 0.25], [0.125, 0.5, 0.375], [0.2, 0.3, 0.5]])
    found = soft_cross_entropy(p_RV, q_RV.log())
    two = torch.tensor(2.0).log()
    entropy = -(p_RV[2] * p_RV[2].log()).sum()
    expected = torch.stack([0.5 * 2 * two + 0.5 * two, 3 * two, entropy])
    torch.testing.assert_close(found, expected)


def test_the_loss_is_that_of_the_same_positions_over_those_that_count(
    learner: AdaptersOfModel,
) -> None:
    ids = torch.arange(3, 3 + 2 * ROW_LEN).view(2, ROW_LEN)
    labels = torch.full_like(ids, IGNORED)
    # A reply of three tokens: the positions in front of them count, and no others.
    labels[1, 4:7] = ids[1, 5:8]
    found = adapter_losses(learner, ids, labels)
    states = learner.base_states(ids)
    base = learner.base
    p_RV = F.softmax(base(ids).logits[1, 4:7], -1)
    for each, z_BTD in learner.read(states).items():
        expected = soft_cross_entropy(p_RV, base.lm_head(z_BTD[1, 4:7])).mean()
        torch.testing.assert_close(found["exit_losses"][each], expected.detach())
    torch.testing.assert_close(found["loss"], sum(found["exit_losses"].values()))
    halved = adapter_losses(learner, ids, labels, num_items=6)
    torch.testing.assert_close(halved["loss"], found["loss"] / 2)


def test_only_adapters_have_gradients_and_all_of_them_do(learner: AdaptersOfModel) -> None:
    ids = torch.arange(3, 3 + ROW_LEN)[None]
    adapter_losses(learner, ids, ids)["loss"].backward()
    assert not any(weight.requires_grad for weight in learner.base.parameters())
    weights = dict(learner.named_parameters())
    names = ("norm_in", "wq", "wk", "wv", "wo", "norm_out")
    assert set(weights) == {f"adapters.{each}.{name}" for each in EXITS for name in names}
    for name, weight in weights.items():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


def test_agreement_expected_under_shared_noise_is_the_published_sum_and_is_met() -> None:
    generator = torch.Generator().manual_seed(5)
    logits = 2 * torch.randn(2, 4, 7, generator=generator)
    p_RV, q_RV = F.softmax(logits, -1).unbind(0)
    p_RV[3, 0] = 0.0
    p_RV[3] /= p_RV[3].sum()
    found = expected_agreement(p_RV, q_RV)
    for p, q, agreement in zip(p_RV, q_RV, found, strict=True):
        inner = [torch.maximum(p / p[i], q / q[i]).sum() for i in range(7) if p[i] > 0]
        torch.testing.assert_close(agreement.float(), sum(1 / each for each in inner))
        distance = 1 - torch.minimum(p, q).sum()
        assert (1 - distance) / (1 + distance) - 1e-6 <= agreement <= 1 - distance + 1e-6
    noise = -torch.log(-torch.log(torch.rand(100_000, 7, generator=generator)))
    same = (p_RV[0].log() + noise).argmax(-1) == (q_RV[0].log() + noise).argmax(-1)
    assert same.float().mean().item() == pytest.approx(found[0].item(), abs=0.01)
    torch.testing.assert_close(expected_agreement(p_RV, p_RV), torch.ones(4, dtype=torch.float64))


# --- runs -----------------------------------------------------------------------------------------


def test_a_run_beats_raw_exits_and_untrained_adapters_and_leaves_the_model_alone(
    base: Path, data: Path, out: Path
) -> None:
    trainer = {"max_steps": 80, "learning_rate": 0.02}
    run = run_of(values_of(base, trainer=trainer), data, out)
    before = {name: each.clone() for name, each in run.trainer.adapters.base.state_dict().items()}
    files = {path.name: path.read_bytes() for path in base.iterdir()}
    run.trainer.train()
    folder = finish(run, 1.0, QUIET)
    assert folder == out / FOLDER
    for name, value in run.trainer.adapters.base.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert {path.name: path.read_bytes() for path in base.iterdir()} == files
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    text = report["scores"]["words"]
    for each in map(str, EXITS):
        trained, raw = text["adapters"][each], text["raw"][each]
        untrained = report["untrained"]["words"]["adapters"][each]
        for other in (raw, untrained):
            assert trained["cross_entropy"] < other["cross_entropy"]
            assert trained["overlap"] > other["overlap"]
            assert trained["agreement"] > other["agreement"]
        assert trained["agreement"] <= trained["agreement_of_2"] <= trained["agreement_of_3"]
        assert trained["sampled_agreement"] == pytest.approx(
            trained["expected_agreement"], abs=0.15
        )
    card = (out / FOLDER / "README.md").read_text(encoding="utf-8")
    assert "was not changed" in card and "| words | 1 | adapter |" in card


def test_what_is_served_reads_exits_as_training_scored_them(
    base: Path, data: Path, out: Path
) -> None:
    run = run_of(values_of(base, trainer={"max_steps": 5}), data, out)
    run.trainer.train()
    folder = finish(run, 1.0, QUIET)
    assert folder is not None
    config = read_model_config(base)
    stack = LayerStack(config, draft_adapters=config.find_draft_adapters(str(folder)))
    assert stack.means.adapter_layers == tuple(EXITS)
    text = list(range(3, 3 + 20))
    found = ExitReader(stack, len(text), through_adapters=True).read(text, 1)  # type: ignore[arg-type]
    learner = run.trainer.adapters
    with torch.no_grad():
        z_by_exit = learner.read(learner.base_states(torch.tensor([text[:-1]])))
        for each in EXITS:
            expected = learner.base.lm_head(z_by_exit[each][0]).argmax(-1).tolist()
            assert found[each].tokens == expected, each


def test_starting_at_the_raw_exit_scores_as_the_raw_exit(base: Path, data: Path, out: Path) -> None:
    values = values_of(base, draft_adapters={"exits": EXITS, "start": "raw_exit"})
    run = run_of(values, data, out)
    scores = score_adapters(run.trainer.adapters, run.held_out["words"].rows)
    for each in EXITS:
        assert scores.adapters[each].agreement == scores.raw[each].agreement
        assert scores.adapters[each].overlap == pytest.approx(scores.raw[each].overlap, abs=1e-4)


class Stop(TrainerCallback):
    """Ends a run after a step, as if it had been interrupted."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = state.global_step >= 4


def test_a_resumed_run_ends_with_the_adapters_of_an_unbroken_one(
    base: Path, data: Path, out: Path
) -> None:
    values = values_of(base, trainer={"max_steps": 6, "save_strategy": "steps", "save_steps": 3})
    unbroken = run_of(values, data, out.with_name("unbroken"))
    unbroken.trainer.train()
    run = run_of(values, data, out)
    run.trainer.add_callback(Stop())
    run.trainer.train()
    path = out.with_name("config.yaml")
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    folder = train(path, data, out, resume=True)
    [first, second] = read_model_config(base).find_draft_adapters(str(folder))
    for each in (first, second):
        expected = unbroken.trainer.adapters.weights_of(each.exit_layer).tensors
        for name, tensor in each.tensors.items():
            assert torch.equal(tensor, expected[name]), name
    found = install(out / FOLDER, base)
    assert found == base / FOLDER
    assert len(read_model_config(base).find_draft_adapters("auto")) == 2


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"init": {"model_type": "llama"}}}, "needs model.path"),
        ({"model": {"path": "x", "store_dtype": "float32"}}, "leave model.store_dtype out"),
        ({"tokenizer": {"vocab_size": 300}}, "leave tokenizer.vocab_size out"),
        ({"draft_adapters": {"exits": []}}, "draft_adapters.exits"),
        ({"draft_adapters": {"exits": [0]}}, r"draft_adapters\.exits\.0"),
        ({"draft_adapters": {"exits": [2, 2]}}, "names an exit twice"),
        ({"draft_adapters": {"exits": [1], "start": "zero"}}, "draft_adapters.start"),
        ({"recipe": {"p_max": 0.1}}, "recipe is not known"),
        ({"trainer": {"max_steps": 0}}, "trainer.max_steps"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    changes: dict[str, Any], message: str, base: Path
) -> None:
    values = values_of(base) | {"tokenizer": {"path": str(base)}} | changes
    with pytest.raises(TrainingError, match=message) as raised:
        checked(values, "of the test", KangarooRun)
    assert "\n" not in str(raised.value)


def test_exits_that_the_model_lacks_are_refused(base: Path, data: Path, out: Path) -> None:
    with pytest.raises(TrainingError, match="4 layers has no exit 4; its exits end at 3"):
        run_of(values_of(base, draft_adapters={"exits": [1, 4]}), data, out)
