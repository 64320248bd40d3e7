"""What a config, its overrides and notebook parameters accept, and the one line that they refuse the rest with."""

import json
import math
import shlex

import pydantic
import pytest
from programs import ROOT, cells_of, last_line, outputs_of, run_program

from rts_nb import train as training
from rts_nb.core.files import ConfigError, RunError
from rts_nb.core.section import Section
from rts_nb.settings.config import Config, load_config, save_config
from rts_nb.settings.places import run_name, run_path

SAMPLE = "configs/sample.yaml"


def refusal(overrides, path=SAMPLE):
    "The error of a config that is refused; a config that is accepted fails the test."
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


# ---------------------------------------------------------------- every field is bounded

BAD = {
    "seed": "-1 4294967296 1.5 abc true nan null",
    "name": "../../etc a/b .hidden 'my config' '' [1] true null " + 65 * "n",
    "augment.enabled": "2 maybe null",
    "augment.rotate90_p": "-0.1 1.1 nan inf true half",
    "augment.hflip_p": "-0.1 1.1",
    "augment.vflip_p": "-0.1 1.1",
    "augment.shift": "-0.1 1.1",
    "augment.scale": "-0.1 1",
    "augment.rotate": "-1 181 inf",
    "augment.shift_scale_rotate_p": "-0.1 2",
    "augment.elastic_alpha": "-1 inf 1e9",
    "augment.elastic_sigma": "0 0.5 1e9",
    "augment.elastic_p": "-0.1 2",
    "augment.shear": "-1 90",
    "augment.affine_p": "-0.1 2",
    "augment.downscale": "[-1,1] [1,0.5] [0,1] [0.5,1.5] [0.5] 0.5 [0.05,1] [nan,1] [true,1]",
    "augment.downscale_p": "-0.1 2",
    "augment.brightness": "-0.1 2",
    "augment.brightness_p": "-0.1 2",
    "augment.contrast": "-0.1 2",
    "augment.contrast_p": "-0.1 2",
    "augment.saturation": "-0.1 2",
    "augment.saturation_p": "-0.1 2",
    "augment.hue": "-0.1 0.6",
    "augment.noise_variance": "[50,10] [-1,10] [10,1e6] [10] 10 [10,inf]",
    "augment.noise_p": "-0.1 2",
    "augment.trivial_p": "-0.1 2",
    "augment.cutmix_p": "-0.1 2 nan",
    "augment.clahe_clip": "0 0.5 1e6",
    "augment.clahe_grid": "0 -8 65 8.5",
    "augment.clahe_p": "-0.1 2",
    "boundary.boundary_handling": "blur null false",
    "boundary.boundary_ignore_width": "0 101 1.5",
    "boundary.soft_label_value": "-0.1 0.6",
    "boundary.soft_label_width": "0 101",
    "boundary.soft_label_mode": "linear",
    "split.folds": "-1 1 1.5 1e6 three",
    "split.fold": "-1 0 1.5",
    "split.epochs": "other null",
    "split.final": "2 maybe null",
    "split.train_share": "0 -0.1 1.5 null half",
    "split.train_draw": "-1 1.5 1001 null 3",
    "sampling.batch_size": "0 -1 1e9 2.5 true",
    "sampling.composition": "random",
    "sampling.positive_fraction": "0 1",
    "sampling.curriculum": "[] 5 [{until:4}] [{until:4,ratio:0}] [{until:0,ratio:1}]",
    "loader.num_workers": "-1 1000 1.5",
    "loader.prefetch_factor": "0 1e6",
    "loader.pin_memory": "2 perhaps",
    "loader.persistent_workers": "2 perhaps",
    "model.architecture": "sam UNet null",
    "model.encoder": "efficientnet-b99 tu-nothing '' null",
    "model.encoder_weights": "imagnet package:b5 ''",
    "model.in_channels": "0 2 4 100",
    "model.fusion": "middle late",
    "model.dropout": "-0.1 1",
    "model.decoder_channels": "[64,48] [0,1,1,1,1] [64,48,32,24,1e6] 64 []",
    "loss.name": "focall null 3",
    "loss.gamma": "-1 1e3 nan",
    "loss.alpha": "-0.1 1.5",
    "loss.lambda_focal": "-1",
    "loss.lambda_dice": "-1 inf",
    "loss.lambda_slump": "-1 inf",
    "loss.eps": "0 -1",
    "loss.pos_weight": "-1 cubic",
    "loss.n_background": "-1 5",
    "loss.n_rts": "-1 5",
    "loss.per_image": "2",
    "loss.ignore_index": "1 0 100",
    "loss.mode": "cubic sqrt",
    "loss.beta": "0.7",
    "optimizer.weight_decay": "-0.1 100",
    "optimizer.clip_norm": "0 -1 inf",
    "lr.frozen_lr": "0 -1 100 nan",
    "lr.base_lr": "0 -1 100",
    "lr.backbone_lr_multiplier": "0 -1 1e6",
    "lr.warmup_epochs": "-1 1e9 1.5",
    "lr.warmup_start_lr": "0 100",
    "lr.min_lr": "0 100",
    "freeze_backbone_epochs": "-1 1.5 16",
    "ema.enabled": "2",
    "ema.decay": "-0.1 1",
    "train.epochs": "0 -3 1.5 1e9 true three",
    "train.val_frequency": "0 1e9",
    "train.precision": "fp8 half 16",
    "train.max_nonfinite": "0 1e9",
    "train.threads": "-1 1e6",
    "train.devices": "0 -1 1e6",
    "train.device": "gpu 0",
    "train.micro_batch": "-1 1.5 1e6",
    "early_stopping.start_epoch": "0",
    "early_stopping.patience": "0 1",
    "early_stopping.min_delta": "-0.1 2",
    "early_stopping.smoothing": "0 1e6",
    "checkpoints.every": "0 1e9",
    "checkpoints.keep": "0 1e9",
    "validation.ratios": "[] [0] [200,200] [1.5] 200",
    "validation.operating_ratio": "0 300 1e9",
    "validation.negatives": "wieght null",
    "predict.scales": "[] 0 2 0.3 [1,1] [1e-9] nan one",
    "predict.tta": "most 8",
    "predict.merge": "min",
    "predict.fusion": "sum",
    "predict.overlap": "-1 128 1.5 1e9",
    "predict.batch_size": "0 1e9",
    "calibration.target_precision": "0 1 nan",
    "calibration.precision_of": "tiles",
    "calibration.min_areas_m2": "[] 0 [100,100] [300,100] [-1] nan",
    "predict.tile_size": "64 0",
    "predict.extra_channels": "[ndvi] 3",
    "reproducibility.deterministic": "2",
    "tracking.experiment": "'' '  ' null true",
    "tracking.tags": "1 text [1] null",
    "cost.hourly_usd": "-1 inf",
    "cost.budget_usd": "0 -1",
    "data.tile_size": "0 1e9",
    "data.extra_channels": "[dem] 5 ndvi",
    "data.block_km": "0 nan",
    "data.source": "nowhere",
}
DATA_ANYWHERE = ("data.root", "data.clip_percentiles")  # bounded where tiles are laid out


def values(text):
    "The values of a row of BAD: separated by spaces, in quotes where they hold some."
    lexer = shlex.shlex(text, posix=False, punctuation_chars=False)
    lexer.whitespace_split = True
    return list(lexer)


CASES = [(key, value) for key, row in BAD.items() for value in values(row)]


@pytest.mark.parametrize("key, value", CASES, ids=[f"{key}={value}" for key, value in CASES])
def test_a_bad_value_is_one_line_that_names_the_key(key, value):
    error = refusal(f"{key}={value}")
    assert "\n" not in error and len(error) < 400
    assert key.split(".")[-1] in error


def leaves(section, prefix=""):
    "Every dotted key of a section."
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_every_field_has_a_bad_value():
    assert set(leaves(Config)) - set(DATA_ANYWHERE) == set(BAD)


def test_no_number_that_is_not_finite():
    cfg = load_config(SAMPLE).model_dump()
    for value in (math.nan, math.inf, "nan", "-inf"):
        with pytest.raises(pydantic.ValidationError):
            Config.model_validate(cfg | dict(cost=dict(hourly_usd=value, budget_usd=1)))


# ---------------------------------------------------------------- overrides

UNDERSTOOD = {
    "seed='42'": ("seed", 42),
    "seed=42.0": ("seed", 42),
    "train.epochs=1e2": ("train.epochs", 100),
    "lr.base_lr=1e-4": ("lr.base_lr", 1e-4),
    "lr.base_lr='1e-4'": ("lr.base_lr", 1e-4),
    "name=2025": ("name", "2025"),
    "name=2025_06": ("name", "2025_06"),
    "name=012": ("name", "012"),
    "name='no'": ("name", "no"),
    "tracking.experiment='slumps of 2025'": ("tracking.experiment", "slumps of 2025"),
    '"tracking.experiment=slumps of 2025"': ("tracking.experiment", "slumps of 2025"),
    "tracking.experiment=a=b": ("tracking.experiment", "a=b"),
    "data.root=2025": ("data.root", "2025"),
    "data.root='my data/x'": ("data.root", "my data/x"),
    "\"data.root='my data/x'\"": ("data.root", "my data/x"),
    "data.root=C:\\data\\new": ("data.root", "C:\\data\\new"),
    "data.root=/data/o'brien": ("data.root", "/data/o'brien"),
    "predict.scales=[1.0, 0.5]": ("predict.scales", (1.0, 0.5)),
    'predict.scales="[1.0, 0.5]"': ("predict.scales", (1.0, 0.5)),
    "predict.scales='1.0 0.5'": ("predict.scales", (1.0, 0.5)),
    "predict.scales=0.5": ("predict.scales", (0.5,)),
    "model.decoder_channels=null": ("model.decoder_channels", None),
    "model.encoder_weights=": ("model.encoder_weights", None),
    "augment.enabled=no": ("augment.enabled", False),
    "augment.enabled=False": ("augment.enabled", False),
    "loss={name: tversky, beta: 0.6}": ("loss.beta", 0.6),
    "  train.epochs=5\n  train.val_frequency=1 ": ("train.epochs", 5),
}


@pytest.mark.parametrize("overrides", UNDERSTOOD)
def test_overrides_are_understood(overrides):
    key, expected = UNDERSTOOD[overrides]
    found = load_config(SAMPLE, overrides)
    for name in key.split("."):
        found = getattr(found, name)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    "text", ["[{until:300,ratio:10}]", "[{until: 300, ratio: 10}]", "[ {until:3e2 , ratio: 1e1} ]"]
)
def test_a_curriculum_may_be_written_without_spaces(text):
    (stage,) = load_config(SAMPLE, f"sampling.curriculum={text} train.epochs=5").sampling.curriculum
    assert (stage.until, stage.ratio) == (300, 10.0)


REFUSED = {
    "sampling.curriculum=[{until:9,ratio:1},{until:4,ratio:2}]": "curriculum stages end at [9, 4]; expected",
    "epochs": "'epochs' is not of the form name=value",
    "train.epochs=5 train.epochs=6": "train.epochs is given twice",
    "data.root=???": "data.root=??? stands for a value that is still to come",
    "data.root=''": "data.root: is empty; expected the folder of a dataset",
    "loss.name=focal dice": "'dice' is not of the form name=value",
    "=3": "'=3' is not of the form",
    "data.root='my data": "not closed",
    "predict.scales=[1.0, 0.5": "not closed",
    "sampling.curriculum=[{until 300]}": "is not readable; write a list like",
    "data.root=[0-9]*.tif": "data.root=[0-9]*.tif is not readable",
    "data.root='a'b": "put the whole value into the other kind of quotes",
    "a..b=1": "'a..b' is not a key",
    "loss=3": "loss",
    "loss={name: focal} loss.gamma=1": "give both loss and loss.gamma",
    "loss.gama=3": "unknown key 'loss.gama'; did you mean 'loss.gamma'?",
    "sampling.curriculum.0.ratio=3": "'sampling.curriculum.0.ratio' is not a key",
    "sampling.curriculum.first.ratio=3": "Cannot merge",
    "data.root=${nowhere}": "nowhere",
    "data.root=${": "data.root",
    "name=no": "name: found False, expected a number or text",
    "train=5": "train",
    "train.epochs.x=5": "train.epochs",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_overrides_that_are_not_understood_are_named(overrides):
    error = refusal(overrides)
    assert REFUSED[overrides] in error and "\n" not in error


# ---------------------------------------------------------------- files


FILES = {
    "- a\n- b": "is not a mapping of sections",
    "train: {epochs: 3}\ntrain: {epochs: 4}": "'train' is given twice",
    "train: [": "is not readable YAML",
    "extends: 5\n": "extends is 5",
    "on: 1\n": "on",
}


@pytest.mark.parametrize("text", FILES)
def test_a_bad_file_is_one_line(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    error = refusal("", tmp_path / "mine.yaml")
    assert FILES[text] in error and "\n" not in error


def test_files_keep_text_as_it_is_written(tmp_path):
    text = f"extends: {ROOT}/configs/sample.yaml\nname: 2025_06\ndata: {{root: 012}}\nlr: {{base_lr: 1e-4}}\n"
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    cfg = load_config(tmp_path / "mine.yaml")
    assert (cfg.name, cfg.data.root, cfg.lr.base_lr) == ("2025_06", "012", 1e-4)
    save_config(cfg, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == cfg


def test_a_file_that_is_not_utf8_is_one_line(tmp_path):
    (tmp_path / "mine.yaml").write_bytes("name: Tübingen".encode("latin-1"))
    assert "is not readable YAML" in refusal("", tmp_path / "mine.yaml")


# ---------------------------------------------------------------- names of runs


def test_long_overrides_make_a_short_name():
    overrides = [f"augment.{name}_p=0.{k}" for k, name in enumerate(("noise", "clahe", "elastic", "affine"), 1)]
    overrides += ["loss.name=tversky", "loss.alpha=0.3", "loss.beta=0.7", "lr.base_lr=0.0002"]
    name = run_name("sample", " ".join(overrides))
    assert len(name) < 80 and name.startswith("sample-augment.affine_p=0.4,")
    assert run_name("sample", "  ".join(overrides[::-1])) == name
    assert run_name("sample", " ".join([*overrides[:-1], "lr.base_lr=0.0003"])) != name


def test_different_overrides_never_share_a_name():
    texts = ["", "a=b/c", "a=b_c", "a='b c'", "a=b:c", "a=1,b=2", "a=1 b=2", "a=[1,2]", "a=[1, 2]", "a=ü", "a=_"]
    assert len({run_name("sample", text) for text in texts}) == len(texts)
    assert run_path(load_config(SAMPLE), "train.epochs=3").parts[-2:] == ("sample-train.epochs=3", "seed-42")


def test_train_applies_overrides_and_seed_to_a_config(monkeypatch):
    "The directory is named after them, so they must hold."
    seen = []
    monkeypatch.setattr(training, "train_config", lambda cfg, *_: seen.append(cfg))
    folder = training.train(load_config(SAMPLE), overrides="loss.lambda_dice=2", seed=43)
    expected = load_config(SAMPLE, "loss.lambda_dice=2", seed=43)
    assert seen == [expected]
    assert folder == run_path(expected, "loss.lambda_dice=2")
    with pytest.raises(ConfigError, match="unknown key 'loss.gama'"):
        training.train(load_config(SAMPLE), overrides="loss.gama=3")
    with pytest.raises(ConfigError, match="by the parameter seed"):
        training.train(load_config(SAMPLE), overrides="seed=44", seed=43)


@pytest.mark.parametrize("is_finished", [True, False])
def test_two_files_of_one_name_never_share_a_run(tmp_path, monkeypatch, is_finished):
    "Whether the run of the first is finished or not."
    monkeypatch.setenv("RTS_RUNS", str(tmp_path / "runs"))
    files = []
    for folder, weight in (("a", 2), ("b", 3)):
        file = tmp_path / folder / "mine.yaml"
        file.parent.mkdir()
        text = f"extends: {ROOT}/configs/sample.yaml\nloss: {{lambda_dice: {weight}}}\n"
        file.write_text(text, encoding="utf-8")
        files.append(file)
    first = load_config(files[0])
    run = run_path(first)
    (run / "checkpoints").mkdir(parents=True)
    save_config(first, run / "config.yaml")
    if is_finished:
        for name in ("metrics.json", "model.safetensors"):
            (run / name).touch()
    found = "holds a run of another config; it differs in loss.lambda_dice .2.0 there, 3.0 here.; name another run_dir"
    with pytest.raises(RunError, match=found):
        training.train(files[1])


# ---------------------------------------------------------------- parameters of a report

CHECK = """from rts_nb.core.jobs import check_parameters
check_parameters(globals())
config, seed, overrides, run_dir, fresh"""


def small_report(folder):
    "A notebook of the parameters of 20_train and their check alone."
    notebook = json.loads((ROOT / "nbs/20_train.ipynb").read_text(encoding="utf-8"))
    parameters = next(cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", []))
    check = dict(cell_type="code", id="check", metadata={}, outputs=[], execution_count=None, source=CHECK)
    path = folder / "report.ipynb"
    path.write_text(json.dumps(notebook | dict(cells=[parameters, check])), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "given, expected",
    [
        ("", "('', 42, '', '', False)"),
        ("-p fresh false -p run_dir 2025", "('', 42, '', '2025', False)"),
        ("-r fresh False -r seed 43 -p overrides 1.0", "('', 43, '1.0', '', False)"),
        ("-p fresh true -p seed 43.0", "('', 43, '', '', True)"),
    ],
)
def test_parameters_of_papermill_are_brought_to_their_types(tmp_path, given, expected):
    out = tmp_path / "out.ipynb"
    done = run_program("papermill", str(small_report(tmp_path)), str(out), *given.split())
    assert done.returncode == 0, done.stderr[-2000:]
    assert expected in outputs_of(cells_of(out))


@pytest.mark.parametrize(
    "given, error",
    [
        ("-p fresh flase", "parameter 'fresh' is 'flase' (str); expected bool, true or false"),
        ("-p seed 4.5", "parameter 'seed' is 4.5 (float); expected int, a whole number"),
        ("-p seed None", "parameter 'seed' is None (NoneType); expected int, a whole number"),
        ("-p sed 43", "parameter 'sed' is not one of this notebook; did you mean 'seed'?"),
    ],
)
def test_parameters_that_are_not_understood_are_one_line(tmp_path, given, error):
    done = run_program("papermill", str(small_report(tmp_path)), str(tmp_path / "out.ipynb"), *given.split())
    assert done.returncode != 0 and error in last_line(done.stderr)
