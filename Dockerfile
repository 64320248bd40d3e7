# Training and inference on a GPU machine: the environment of requirements.txt (CUDA 13 wheels: NVIDIA driver 580 or newer on the host).
#   docker build -t rts_nb --build-arg COMMIT=$(git describe --always --dirty --abbrev=12 --exclude='*') .
# The image has no .git: a run in it shows this commit as stated, not checked; it ends in -dirty where the tree had changes.
# Trains configs/baseline.yaml, or resumes it. Data, runs and a cache for pretrained weights are mounted; runs/ must be writable by user 1000:
#   docker run --rm --init --stop-timeout 120 --gpus all --shm-size 16g -v /data/rts:/app/data/rts -v "$PWD/runs:/app/runs" -v rts_cache:/home/rts/.cache rts_nb
# A spot machine that goes away sends SIGTERM, and Docker kills after --stop-timeout seconds: training ends its step, writes a checkpoint, and the same
# command resumes from that step. papermill passes no signal on, so the report is executed afterwards, in seconds, on the finished run:
#   docker run --rm --gpus all -v /data/rts:/app/data/rts -v "$PWD/runs:/app/runs" rts_nb papermill nbs/20_train.ipynb runs/baseline/seed-42/notebooks/20_train.ipynb
# Without --gpus the config's train.device: cuda refuses to start. Maps:
#   docker run --rm --init --stop-timeout 120 --gpus all --shm-size 16g -v /data/scenes:/app/data/scenes:ro -v "$PWD/runs:/app/runs" rts_nb \
#       python -m rts_nb.infer --model-dir runs/baseline/seed-42 --scenes data/scenes --out-dir runs/maps/2025
# Nothing listens by itself. What does (JupyterLab, MLflow, Ray's dashboard) is published on the host's loopback alone:
#   docker run --rm --gpus all --shm-size 16g -p 127.0.0.1:8888:8888 -v "$PWD/runs:/app/runs" rts_nb jupyter lab --ip 0.0.0.0 --no-browser
# No credentials are in the image: give them to a container when it starts, read-only (-v key.json:/run/key.json:ro -e GOOGLE_APPLICATION_CREDENTIALS=/run/key.json).
FROM python:3.11-slim-bookworm

# libexpat1 is what rasterio's wheel takes from the system.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends git make libexpat1 && rm -rf /var/lib/apt/lists/*

# What has to be set before Python and CUDA start: all that the Makefile sets.
ENV PYTHONHASHSEED=42 \
    CUBLAS_WORKSPACE_CONFIG=:4096:8 \
    OMP_WAIT_POLICY=PASSIVE \
    MLFLOW_DISABLE_TELEMETRY=true \
    NO_ALBUMENTATIONS_UPDATE=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    PYTORCH_ALLOC_CONF=expandable_segments:True \
    JUPYTER_PREFER_ENV_PATH=1 \
    RTS_CONFIG=configs/baseline.yaml \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --create-home --uid 1000 rts && mkdir /app && chown rts:rts /app
USER 1000
WORKDIR /app
ENV PATH=/home/rts/venv/bin:$PATH

COPY --chown=rts:rts requirements.txt ./
# What no run reads goes in the layer that brought it: static libraries, torch's headers (there is no compiler here) and the tests of large packages.
RUN python -m venv /home/rts/venv && pip install -r requirements.txt \
 && cd /home/rts/venv/lib/python3.11/site-packages \
 && find . -name '*.a' -delete && rm -r torch/include \
 && find matplotlib networkx numpy pandas pyarrow scipy sklearn sympy -type d -name tests -prune -exec rm -r {} +
COPY --chown=rts:rts . .
RUN pip install --no-build-isolation --no-deps -e '.[public,ray]' \
 && python -m ipykernel install --sys-prefix --name python3 --display-name python3 \
    --env PYTHONHASHSEED 42 --env CUBLAS_WORKSPACE_CONFIG :4096:8 --env OMP_WAIT_POLICY PASSIVE \
    --env MLFLOW_DISABLE_TELEMETRY true --env NO_ALBUMENTATIONS_UPDATE 1 --env RAY_USAGE_STATS_ENABLED 0 \
    --env PYTORCH_ALLOC_CONF expandable_segments:True --env JUPYTER_PREFER_ENV_PATH 1 \
 && mkdir -p runs data /home/rts/.cache
ARG COMMIT
ENV RTS_COMMIT=$COMMIT

CMD ["python", "-m", "rts_nb.train"]
