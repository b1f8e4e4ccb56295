"""The file of a run: what is refused, and that the refusal says where and how to mend it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.training_runs import continued_values, run_values, sources
from training.config import (
    AcceptanceRun,
    KangarooRun,
    RunConfig,
    TextRun,
    checked,
    read_config,
)
from training.errors import TrainingError
from training.run_setup import arguments_of

KINDS: dict[str, type[TextRun]] = {"draft_adapters": KangarooRun, "acceptance": AcceptanceRun}
REGIMES = sorted(Path("training/regimes").glob("*.yaml"))


def written(folder: Path, values: Any) -> Path:
    path = folder / "run.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values), encoding="utf-8")
    return path


def source(**changes: Any) -> dict[str, Any]:
    return sources(tasks=0)[0] | changes


@pytest.mark.parametrize("path", REGIMES, ids=lambda path: path.stem)
def test_the_regimes_are_valid(path: Path) -> None:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    placeholder = (
        [] if values["model"].get("init") or values["model"].get("path") else ["model.path=x"]
    )
    [kind] = [KINDS[section] for section in values if section in KINDS] or [RunConfig]
    assert read_config(path, placeholder, kind).name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: [unclosed", r"run\.yaml is no YAML: .*line 1"),
        ("a: b: c", r"run\.yaml is no YAML"),
        ("- a list", r"run\.yaml must hold sections such as model"),
        ("", r"run\.yaml must hold sections"),
        ("\x00", r"run\.yaml is no YAML"),
    ],
)
def test_files_that_are_no_configuration_are_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        read_config(written(tmp_path, content))


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.write_bytes(b"\xff\xfe\xfa"), Path.mkdir]
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "run.yaml")
    with pytest.raises(TrainingError, match=r"cannot read the configuration .*run\.yaml"):
        read_config(tmp_path / "run.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipes": {}}, "recipes is not known, did you mean recipe"),
        ({"zzz": {}}, "zzz is not known$"),
        ({"recipe": {"rotations": 4}}, r"recipe\.rotations is not known, did you mean rotation\?"),
        ({"recipe": {"p_max": 1.5}}, r"recipe\.p_max: .*less than or equal to 1"),
        ({"recipe": {"p_max": "much"}}, r"recipe\.p_max: .*number"),
        ({"recipe": {"curriculum": "none"}}, r"recipe\.curriculum: .*rotational"),
        ({"recipe": {"rotation": 0}}, r"recipe\.rotation: .*at least|greater"),
        ({"model": {"init": {"hidden_size": 8}}}, "model: init needs model_type"),
        ({"model": {"path": "x"}}, "model: give either path"),
        ({"model": {"init": None}}, "model: give either path"),
        ({"model": {"store_dtype": "int8"}}, r"model\.store_dtype: .*float16"),
        ({"tokenizer": {"vocab_size": 100}}, r"tokenizer\.vocab_size: .*257"),
        ({"tokenizer": {"path": "x"}}, "tokenizer: give path or vocab_size, not both"),
        ({"tokenizer": None}, "from scratch, tokenizer needs a path or a vocab_size"),
        ({"data": {"sources": []}}, r"data\.sources: .*at least 1"),
        ({"data": {"sources": [source(share=0.4)]}}, "data: the shares .* add up to 0.4, not 1"),
        ({"data": {"sources": [source(share=0.5)] * 2}}, "data: two sources have the same name"),
        ({"data": {"sources": [source(valid=[])]}}, r"data\.sources\.0: source words needs file"),
        ({"data": {"sources": [source(format="csv")]}}, r"data\.sources\.0\.format: .*jsonl"),
        ({"data": {"sources": [source(name="a/b")]}}, r"data\.sources\.0\.name"),
        ({"data": {"long_row_len": 32}}, "data: long_row_len and long_share go together"),
        ({"data": {"long_row_len": 8, "long_share": 0.1}}, "long_row_len must exceed row_len"),
        ({"trainer": {"max_steps": 0}}, r"trainer\.max_steps must be a whole number, at least 1"),
        ({"trainer": {"max_steps": "many"}}, r"trainer\.max_steps must be a whole number"),
        ({"trainer": {"max_steps": None}}, r"trainer\.max_steps must be a whole number"),
        ({"trainer": {"max_steps": [3]}}, r"trainer\.max_steps must be a whole number"),
        ({"trainer": {"seed": 3}}, r"trainer\.seed is decided by this configuration; leave it out"),
        ({"trainer": None}, "trainer: Field required"),
        ({"lora": {"rank": 4}}, "lora, freeze and recipe.base_distillation need model.path"),
        ({"recipe": {"base_distillation": 1.0}}, "recipe.base_distillation need model.path"),
        ({"freeze": ["norms"]}, r"freeze\.0: .*norm"),
    ],
)  # fmt: skip
def test_faulty_values_are_named_with_their_place(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=f"configuration .*run.yaml: .*{message}"):
        read_config(written(tmp_path, run_values(**changes)))


def test_growth_is_refused_for_a_model_that_exists(tmp_path: Path) -> None:
    values = continued_values(tmp_path, recipe={"start_layers": 2})
    with pytest.raises(TrainingError, match=r"recipe\.start_layers is for training from scratch"):
        read_config(written(tmp_path, values))


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    values = run_values(recipe={"p_max": 2}, data={"row_len": 1}, modelx={})
    with pytest.raises(TrainingError) as caught:
        checked(values, "x")
    for place in ("recipe.p_max", "data.row_len", "modelx is not known, did you mean model?"):
        assert place in str(caught.value)


def test_overrides_set_values_of_any_depth(tmp_path: Path) -> None:
    overrides = [
        "recipe.p_max=0.25", "data.sources.0.share=0.5", "data.sources.1.share=0.5",
        "model.init.hidden_size=32", "trainer.learning_rate=1e-4", "guard.max_accuracy_drop=0.5",
        "data.sources.0.train=[a.txt, b.txt]", "recipe.start_layers=null", "name=x=y",
    ]  # fmt: skip
    config = read_config(written(tmp_path, run_values()), overrides)
    assert config.recipe.p_max == 0.25
    assert [entry.share for entry in config.data.sources] == [0.5, 0.5]
    assert config.data.sources[0].train == ["a.txt", "b.txt"]
    assert config.model.init is not None
    assert config.model.init["hidden_size"] == 32
    assert config.trainer["learning_rate"] == 0.0001
    assert config.guard.max_accuracy_drop == 0.5
    assert config.name == "x=y"


@pytest.mark.parametrize(
    "override",
    [
        "recipe.p_max", "=3", "data.sources.7.share=1", "data.sources.x.share=1",
        "recipe.p_max.deep=1", "recipe.p_max={", "recipe.p_max=a: b: c",
    ],
)  # fmt: skip
def test_overrides_that_do_not_fit_are_named(tmp_path: Path, override: str) -> None:
    with pytest.raises(TrainingError) as caught:
        read_config(written(tmp_path, run_values()), [override])
    assert repr(override) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_override_of_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"recipe\.pmax is not known, did you mean p_max"):
        read_config(written(tmp_path, run_values()), ["recipe.pmax=0.1"])


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("3E+2", 300.0), ("1e", "1e"), ("e1", "e1")]
)
def test_numbers_may_have_an_exponent_without_a_point(
    tmp_path: Path, text: str, value: Any
) -> None:
    config = read_config(written(tmp_path, run_values()), [f"trainer.learning_rate={text}"])
    assert config.trainer["learning_rate"] == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rat": 1.0}, r"trainer\.learning_rat is not an argument"),
        ({"eval_strategy": "sometimes"}, "trainer: .*sometimes"),
        ({"lr_scheduler_type": "zigzag"}, "trainer: .*zigzag"),
        ({"optim": "best"}, "trainer: .*best"),
    ],
)  # fmt: skip
def test_arguments_that_the_trainer_does_not_take_are_named(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    config = read_config(written(tmp_path, run_values(trainer=arguments)))
    with pytest.raises(TrainingError, match=message):
        arguments_of(config, tmp_path)


@pytest.mark.parametrize(
    "name", ["output_dir", "label_smoothing_factor", "train_sampling_strategy"]
)
def test_what_the_run_decides_itself_is_refused_of_the_trainer(name: str) -> None:
    with pytest.raises(TrainingError, match=rf"trainer\.{name} is decided by this configuration"):
        checked(run_values(trainer={name: "x"}), "of the test")
