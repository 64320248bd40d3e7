"""`python tests/gpus.py`: six Ray tasks on two GPUs, as Ray counts them, whether they are there or not.

Prints as JSON what a task takes of the cluster, the devices, the number of workers, and pairs of tasks that were on the
same GPU at the same time.
"""

import itertools
import json
import os
import time
from unittest.mock import patch

import ray

from rts_nb.mapping.engines import on_ray, ray_cluster, task_device, task_share


def run_on_gpu(n):
    "(start, end, device, process) of a task of 0.3 s."
    import ray

    start = time.time()
    time.sleep(0.3)
    return start, time.time(), task_device(ray.get_gpu_ids()), os.getpid()


def overlap(one, other):
    "Whether two tasks were on the same device at the same time."
    return one[2] == other[2] and one[0] < other[1] and other[0] < one[1]


def start_with_two_gpus(*arguments, init=ray.init, **options):
    "Takes the place of `ray.init`."
    return init(*arguments, num_cpus=4, num_gpus=2, **options)


def main():
    with patch.object(ray, "init", start_with_two_gpus), ray_cluster() as cluster:
        share = task_share(cluster.nodes())
        tasks = [task for _, task in on_ray(cluster, run_on_gpu, [(n, (n,)) for n in range(6)], share)]
    found = dict(
        share=share,
        devices=sorted({device for _, _, device, _ in tasks}),
        workers=len({process for *_, process in tasks}),
        overlapping=[pair for pair in itertools.combinations(tasks, 2) if overlap(*pair)],
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
