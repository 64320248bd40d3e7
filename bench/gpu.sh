#!/usr/bin/env bash
# What only a GPU can show: under ten minutes on a machine with one A100 or H100, written to docs/gpu.md. On a CPU: small sizes.
#
# The environment, one of:
#   make env                         where a package index can be reached (about 6 GB)
#   docker run --gpus all ... rts_nb bash bench/gpu.sh      the image of the Dockerfile, built elsewhere and loaded with `docker load`
#   PYTHON=/path/to/python3          one that has torch for the card; what it lacks of requirements.txt can come along:
#                                    `pip download -r requirements.txt -d wheels` elsewhere, `pip install --no-index --find-links wheels ...` here
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONHASHSEED=42 CUBLAS_WORKSPACE_CONFIG=:4096:8 OMP_WAIT_POLICY=PASSIVE MLFLOW_DISABLE_TELEMETRY=true NO_ALBUMENTATIONS_UPDATE=1
export PYTORCH_ALLOC_CONF=expandable_segments:True PYTHONUNBUFFERED=1
python=${PYTHON:-.venv/bin/python}
test -x "$(command -v "$python")" || { echo "bench/gpu.sh: there is no $python; run make env, or name an interpreter: PYTHON=python3 bash bench/gpu.sh" >&2; exit 1; }
exec "$python" -W ignore bench/gpu.py "$@"
