# The environment of requirements.txt for a GPU machine (CUDA 13 wheels: NVIDIA driver 580 or newer on the host).
#   docker build -t rts_nb --build-arg COMMIT=$(git rev-parse --short=12 HEAD) .
# The mounted runs/ must be writable by user 1000.
#   docker run --gpus all --shm-size 16g -v /data/rts:/app/data/rts -v "$PWD/runs:/app/runs" rts_nb
FROM python:3.11-slim-bookworm

RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*

# PYTHONHASHSEED acts only if it is set before Python starts, the cuBLAS workspace before CUDA does.
ENV PYTHONHASHSEED=42 \
    CUBLAS_WORKSPACE_CONFIG=:4096:8 \
    OMP_WAIT_POLICY=PASSIVE \
    RTS_CONFIG=configs/baseline.yaml \
    MLFLOW_DISABLE_TELEMETRY=true NO_ALBUMENTATIONS_UPDATE=1 \
    PIP_NO_CACHE_DIR=1

RUN useradd --create-home --uid 1000 rts && mkdir /app && chown rts:rts /app
USER rts
WORKDIR /app
ENV PATH=/home/rts/venv/bin:$PATH

COPY --chown=rts:rts requirements.txt settings.ini setup.py ./
RUN python -m venv /home/rts/venv && pip install -r requirements.txt
COPY --chown=rts:rts . .
ARG COMMIT
ENV RTS_COMMIT=$COMMIT
RUN pip install --no-build-isolation --no-deps -e '.[public]' \
 && python -m ipykernel install --sys-prefix --name python3 --display-name python3 --env PYTHONHASHSEED 42 --env CUBLAS_WORKSPACE_CONFIG :4096:8 --env OMP_WAIT_POLICY PASSIVE \
 && mkdir -p runs data

CMD ["papermill", "nbs/20_train.ipynb", "runs/20_train.ipynb"]
