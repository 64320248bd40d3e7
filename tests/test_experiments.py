"""make experiment and make search: what they run, skip, stop and refuse. Trainings are stood in for but in one test."""

import json
from pathlib import Path

import numpy as np
import pytest
from programs import run_python

from rts_nb.core.files import ConfigError, RunError, write_json
from rts_nb.experiments import command
from rts_nb.experiments import search as searching
from rts_nb.experiments.command import BudgetSpent, report_family, run_family
from rts_nb.experiments.ledger import ledger_path, open_ledger, spent_usd
from rts_nb.experiments.plan import make_plan
from rts_nb.experiments.running import Ended
from rts_nb.runs.directory import finished
from rts_nb.scores.histogram import ScoreHistogram
from rts_nb.scores.strata import simulated_scores
from rts_nb.settings.config import load_config, save_config
from rts_nb.settings.examples import tiny_dataset

GAINS = {"loss.gamma=1": 0.9, "loss.gamma=3": -0.6}
USD = 2.0
SCORES = simulated_scores()


def write_finished(job):
    "Writes the run of a job as training leaves it, its scores better by what its change gains."
    logits, labels, tiles = SCORES
    gain = next((gain for change, gain in GAINS.items() if change in job.overrides), 0.0)
    of_seed = np.random.default_rng(job.seed + round(1000 + 10 * gain)).normal(0, 0.02)
    job.run_dir.mkdir(parents=True, exist_ok=True)
    save_config(load_config(job.config, job.overrides, job.seed, job.fold), job.run_dir / "config.yaml")
    scores = ScoreHistogram().add(logits + (gain + of_seed) * (labels == 1), labels, tiles)
    scores.save(job.run_dir / "validation_scores.npz")
    best = {"realistic_200": {"pr_auc": float(scores.pr_auc(200).value)}}
    write_json(job.run_dir / "metrics.json", dict(best_epoch=1, epochs=1, hours=1.0, cost_usd=USD, best=best))
    write_json(job.run_dir / "normalization_stats.json", {})
    (job.run_dir / "model.safetensors").touch()


class Trainer:
    "Stands in for run_job: what it was asked to run, and which titles fail."

    def __init__(self, fails=()):
        self.fails, self.ran = fails, []

    def __call__(self, job, watch=lambda _: ""):
        self.ran.append(job.title)
        if any(word in f"{job.title} {job.overrides}" for word in self.fails):
            return Ended("failed", "DataError: no such band", 0.1)
        write_finished(job)
        return Ended("finished", "", 1.0)


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.setenv("RTS_RUNS", str(tmp_path / "runs"))
    base = tmp_path / "little.yaml"
    sample = Path("configs/sample.yaml").resolve()
    base.write_text(f"extends: {sample}\nname: little\n", encoding="utf-8")
    lines = "".join(f"  gamma-{change[-1]}: {{change: {change}, why: to see}}\n" for change in GAINS)
    (tmp_path / "little-plan.yaml").write_text(f"base: {base}\nquestion: q\nexperiments:\n{lines}", encoding="utf-8")
    return make_plan("little-plan", folder=tmp_path)


@pytest.mark.long
def test_base_then_changes_then_fresh_seeds_of_what_was_taken(plan, monkeypatch):
    trainer = Trainer()
    monkeypatch.setattr(command, "run_job", trainer)
    assert run_family(plan, list(plan.variants), None) == {}
    of_base = [f"little-plan/base seed {seed}" for seed in (42, 43, 44)]
    of_first = [f"little-plan/gamma-1 seed {seed}" for seed in (42, 43, 44)]
    fresh = [f"little-plan/{name} seed {seed}" for name in ("base", "gamma-1") for seed in (45, 46, 47)]
    assert trainer.ran == [*of_base, *of_first, "little-plan/gamma-3 seed 42", *fresh]
    words = {judged.variant.name: judged.word for judged in open_ledger(plan).judged}
    assert words == {"gamma-1": "better", "gamma-3": "undecided"}
    again = Trainer()
    monkeypatch.setattr(command, "run_job", again)
    run_family(plan, list(plan.variants), None)
    assert again.ran == [], "what is finished is skipped"


@pytest.mark.long
def test_a_budget_ends_it_and_a_larger_one_goes_on(plan, monkeypatch):
    trainer = Trainer()
    monkeypatch.setattr(command, "run_job", trainer)
    with pytest.raises(BudgetSpent, match=r"budget of 5 USD: 4.00 are spent and a run costs about 2.00"):
        run_family(plan, list(plan.variants), 5.0)
    assert len(trainer.ran) == 2 and spent_usd(plan) == 2 * USD
    run_family(plan, list(plan.variants), 100.0)
    assert len(trainer.ran) == 13


def test_a_budget_that_ends_the_first_run_leaves_it_to_go_on_and_no_report(plan, monkeypatch):
    monkeypatch.setattr(command, "run_job", lambda job, watch: Ended("stopped", "budget of 1 USD is spent", 0.5))
    with pytest.raises(BudgetSpent, match="base seed 42: budget of 1 USD is spent; the same command with a larger"):
        run_family(plan, list(plan.variants), 1.0)
    assert report_family(plan) == "no run of little-plan is finished yet, so there is no report"


@pytest.mark.long
def test_a_failed_change_is_counted_and_a_failed_base_ends_it(plan, monkeypatch):
    monkeypatch.setattr(command, "run_job", Trainer(fails=["gamma-1"]))
    assert run_family(plan, list(plan.variants), None) == {"little-plan/gamma-1 seed 42": "DataError: no such band"}
    monkeypatch.setenv("RTS_RUNS", f"{ledger_path(plan)}-others")
    monkeypatch.setattr(command, "run_job", Trainer(fails=["base"]))
    with pytest.raises(RunError, match="base seed 42 failed: DataError: no such band; nothing can be compared"):
        run_family(plan, list(plan.variants), None)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["los"], "'los' is not in configs/experiments; did you mean 'loss'"),
        (["loss/tverski-37"], "did you mean 'tversky-37'"),
        (["loss", "--budget", "0"], "budget 0: nothing can run; expected USD above 0"),
        (["loss", "--overrides", "train.epoch=5"], "did you mean 'train.epochs'"),
    ],
)
def test_refused_before_anything_runs(arguments, said, tmp_path, monkeypatch):
    monkeypatch.setenv("RTS_RUNS", str(tmp_path))
    with pytest.raises(SystemExit) as error:
        command.main(arguments)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "experiments").exists()


@pytest.mark.long
def test_a_failed_trial_is_counted_and_the_best_restated(tmp_path, monkeypatch):
    monkeypatch.setenv("RTS_RUNS", str(tmp_path))
    trainer = Trainer(fails=["loss.gamma=5"])
    monkeypatch.setattr(searching, "run_job", trainer)
    space = {"gamma": searching.Range(key="loss.gamma", choices=("1", "3", "5"))}
    study = searching.search("configs/sample.yaml", "", 8, space)
    counts = searching.search_counts(study)
    assert counts.startswith("8 trials: ") and "failed" in counts and len(trainer.ran) == 8
    assert searching.best_trials(study)[0].params == {"gamma": "1"}
    assert all("deterministic=false" in trial.user_attrs["overrides"] for trial in searching.best_trials(study))
    searching.search("configs/sample.yaml", "", 8, space)
    assert len(trainer.ran) == 8, "as many as were asked for are there"
    folder = searching.search_path(load_config("configs/sample.yaml"), "")
    restated = searching.restate(study, "configs/sample.yaml", "", folder)
    assert restated["gain"] > 0.01 and trainer.ran[8:] == 3 * ["best of the search"] + 3 * ["base"]
    assert load_config(searching.write_best_trial(study, "configs/sample.yaml", "", folder)).loss.gamma == 1


def test_a_search_of_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("RTS_RUNS", str(tmp_path))
    with pytest.raises(ConfigError, match="trials 0: expected 1 or more"):
        searching.search("configs/sample.yaml", "", 0, {})
    monkeypatch.setattr(searching, "run_job", Trainer(fails=["loss"]))
    space = {"gamma": searching.Range(key="loss.gamma", choices=("1", "3"))}
    with pytest.raises(RunError, match="none of 2 trials is finished; the last failed: DataError: no such band"):
        searching.search("configs/sample.yaml", "", 2, space)


@pytest.mark.long
def test_a_family_by_papermill_with_its_report(tmp_path):
    "Three seeds of the base on 24 tiles, the report, and the same again in no time."
    root = tiny_dataset(tmp_path)
    tiny = f"data.root={root} data.tile_size=64 predict.overlap=32 sampling.batch_size=4 loader.num_workers=0"
    small = "model.architecture=unet train.epochs=1 train.val_frequency=1 freeze_backbone_epochs=0"
    words = ("-m", "rts_nb.experiments.command", "baseline", "--config", "configs/test.yaml")
    env = dict(RTS_RUNS=str(tmp_path / "runs"))
    done = run_python(*words, "--overrides", f"{tiny} {small}", env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "runs" / "experiments").iterdir()
    assert json.loads((folder / "plan.json").read_text(encoding="utf-8"))["family"] == "baseline"
    assert (folder / "50_report.html").exists()
    assert sum(finished(path) for path in (tmp_path / "runs").glob("test-*/seed-*")) == 3
    base = min((tmp_path / "runs").glob("test-*/seed-42"))
    assert run_python("-m", "rts_nb.experiments.index", str(base), env=env).returncode == 0
    page = (base / "index.html").read_text(encoding="utf-8")
    assert "baseline: of 0 changes 0 have run" in page and f"experiments/{folder.name}/50_report.html" in page
    again = run_python(*words, "--overrides", f"{tiny} {small}", env=env)
    assert again.returncode == 0 and "begins" not in again.stdout
