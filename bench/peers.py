"""Other trackers, each logging the same rows: median microseconds of a call, and bytes a point once finished."""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from measure import bytes_below

Rows = list[dict[str, float]]


def microseconds(call: Callable[[dict[str, float], int], object], data: Rows) -> float:
    """Median microseconds of `call(row, step)`."""
    times = []
    for step, row in enumerate(data):
        start = time.perf_counter_ns()
        call(row, step)
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1e3


def points(data: Rows) -> int:
    return sum(map(len, data))


def tensorboard(folder: Path, data: Rows) -> tuple[float, float]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def log(row: dict[str, float], step: int) -> None:
        for name, value in row.items():
            writer.add_scalar(name, value, step)

    took = microseconds(log, data)
    writer.close()
    return took, bytes_below(folder / "tensorboard") / points(data)


def wandb(folder: Path, data: Rows) -> tuple[float, float]:
    import wandb as client

    (folder / "wandb").mkdir()
    run = client.init(
        project="bench", mode="offline", dir=str(folder / "wandb"), settings=client.Settings(silent=True, x_disable_stats=True)
    )
    took = microseconds(lambda row, step: run.log(row, step=step), data)
    run.finish()
    return took, sum(path.stat().st_size for path in (folder / "wandb").rglob("*.wandb")) / points(data)


def trackio(folder: Path, data: Rows) -> tuple[float, float]:
    os.environ["TRACKIO_DIR"] = str(folder / "trackio")
    import trackio as client

    client.init(project="bench", name="log", embed=False)
    took = microseconds(lambda row, step: client.log(row, step=step), data)
    client.finish()
    return took, bytes_below(folder / "trackio") / points(data)


def mlflow(folder: Path, data: Rows) -> tuple[float, float]:
    """Its SQLite store, which is its default since 3."""
    import mlflow as client

    (folder / "mlflow").mkdir()
    client.set_tracking_uri(f"sqlite:///{folder}/mlflow/mlflow.db")
    client.set_experiment("bench")
    before = bytes_below(folder / "mlflow")
    with client.start_run():
        took = microseconds(lambda row, step: client.log_metrics(row, step=step), data)
    return took, (bytes_below(folder / "mlflow") - before) / points(data)


def aim(folder: Path, data: Rows) -> tuple[float, float]:
    import aim as client

    run = client.Run(repo=str(folder / "aim"), system_tracking_interval=None, log_system_params=False)

    def log(row: dict[str, float], step: int) -> None:
        for name, value in row.items():
            run.track(value, name=name, step=step)

    took = microseconds(log, data)
    run.close()
    return took, bytes_below(folder / "aim") / points(data)


# A call of theirs takes so much longer that fewer say as much.
PEERS: dict[str, tuple[Callable[[Path, Rows], tuple[float, float]], int]] = {
    "trackio": (trackio, 4),
    "tensorboard": (tensorboard, 1),
    "wandb (offline)": (wandb, 4),
    "mlflow (sqlite)": (mlflow, 20),
    "aim": (aim, 20),
}
