"""What `bench/gpu.sh` does on a GPU works here, with small sizes, on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from rts_nb.networks import models
from rts_nb.networks.models import parameter_groups
from rts_nb.runs.directory import open_run_data
from rts_nb.settings.examples import tiny_config, tiny_dataset
from rts_nb.train import train
from rts_nb.training import loop
from rts_nb.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.skipif("RTS_KILLS" not in os.environ, reason="two minutes: make test-all runs it")
def test_every_part_of_the_gpu_bench_runs(tmp_path):
    "Every part has rows, none failed, and what must be equal to the bit is."
    command = ["bash", str(ROOT / "bench/gpu.sh"), "--out", str(tmp_path / "gpu.md")]
    done = subprocess.run(command, env=os.environ | SETTINGS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {what: found for what, found, _ in json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))}
    assert not [what for what, found in rows.items() if found in ("FAILED", "not run")]
    must_be_equal = [what for what in rows if what.endswith("twice") or what.startswith("stopped by SIGTERM")]
    assert len(must_be_equal) == 3 and {rows[what] for what in must_be_equal} == {"equal to the bit"}
    assert "small sizes" in (tmp_path / "gpu.md").read_text(encoding="utf-8")


def test_gpu_bench_names_a_missing_interpreter(tmp_path):
    command = ["bash", str(ROOT / "bench/gpu.sh")]
    done = subprocess.run(
        command, env=os.environ | {"PYTHON": str(tmp_path / "python3")}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "run make env, or name an interpreter" in done.stderr


def test_a_resume_fetches_no_weights_that_its_checkpoint_replaces(tmp_path):
    "A run without its last files is finished from its checkpoint while no pretrained weights can be had."
    cfg, run = tiny_config(tiny_dataset(tmp_path), epochs=1), tmp_path / "run"
    train(cfg, run)
    written = (run / "model.safetensors").read_bytes()
    for name in ("metrics.json", "model.safetensors"):
        (run / name).unlink()
    unreachable = ConnectionError("no pretrained weights can be had")
    with patch.object(models, "pretrained_weights", side_effect=unreachable):
        with patch.object(loop, "note_memory") as note_memory:
            train(cfg, run)
        note_memory.assert_not_called()  # there is no epoch left whose step could be tried
        assert (run / "model.safetensors").read_bytes() == written
        try:
            train(cfg, tmp_path / "new")
        except ConnectionError as error:
            assert error is unreachable
        else:
            raise AssertionError("a new run needs them")


def test_an_optimiser_is_fused_by_its_device_and_not_by_the_checkpoint(tmp_path):
    "A checkpoint of an optimiser that was not fused leaves a fused one fused, whose step a loss scaler then accepts."
    cfg = tiny_config(tiny_dataset(tmp_path))
    written, resumed = (Trainer(cfg, *open_run_data(cfg), cfg.loss.build()) for _ in range(2))
    written.enter_phase()
    written.step(next(iter(written.loader)), 0)
    written.save(tmp_path / "last.pt")
    resumed.optimizer = torch.optim.AdamW(parameter_groups(resumed.model), fused=True)
    resumed.load(tmp_path / "last.pt")
    assert [group["fused"] for group in resumed.optimizer.param_groups] == [True, True]
    resumed.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    resumed.enter_phase()
    assert resumed.step(next(iter(resumed.loader)), 1) is not None
