"""Metrics of a run, to JSONL and TensorBoard, through clu's writers."""

import contextlib
import json
import os

from mmer_jax import files, processes


@contextlib.contextmanager
def _silent_stderr():
    """Nothing that native code writes to stderr is seen while this lasts."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# tensorflow says at every start, whatever its log level, which CPU instructions and which CUDA it
# has or lacks: of no use to whoever reads a training's progress, as it only writes event files.
with _silent_stderr():
    import tensorflow as tf
    from clu import metric_writers
    from clu.metric_writers import interface


class JsonlWriter(interface.MetricWriter):
    """A line of JSON per step: {"step": 20, "loss": 1.2, ...}. Only scalars and texts are kept."""

    def __init__(self, path: str):
        self._path = path
        # An object can't be appended to: there the lines are kept and written as a whole.
        self._lines = files.read_text(path) if files.exists(path) else ""
        self._file = None if files.is_remote(path) else open(path, "a", encoding="utf-8")

    def write_scalars(self, step, scalars):
        """Appends a line; on disk at once, so that a killed run keeps it."""
        line = {"step": step} | {name: float(value) for name, value in scalars.items()}
        if self._file is None:
            self._lines += json.dumps(line) + "\n"
        else:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def write_summaries(self, step, values, metadata=None):
        """Not kept."""

    def write_images(self, step, images):
        """Not kept."""

    def write_videos(self, step, videos):
        """Not kept."""

    def write_audios(self, step, audios, *, sample_rate):
        """Not kept."""

    def write_texts(self, step, texts):
        """Not kept."""

    def write_histograms(self, step, arrays, num_buckets=None):
        """Not kept."""

    def write_pointcloud(self, step, point_clouds, *, point_colors=None, configs=None):
        """Not kept."""

    def write_hparams(self, hparams):
        """Not kept: the config has a file of its own."""

    def flush(self):
        """Writes what waits: nothing on a disk, all in an object store."""
        if self._file is None:
            files.replace_file(self._path, self._lines)

    def close(self):
        """Closes the file."""
        self.flush()
        if self._file is not None:
            self._file.close()


def make_writer(folder: str, resumed_at: int) -> interface.MetricWriter:
    """Writes `folder/metrics.jsonl` and TensorBoard events in `folder/tensorboard`.

    Args:
      folder: exists.
      resumed_at: lines after this step, left by an interrupted run, are dropped.

    Returns:
      The writer; in all processes but the first, one that writes nothing.
    """
    if not processes.is_first():
        return metric_writers.MultiWriter([])
    path = os.path.join(folder, "metrics.jsonl")
    _drop_after(path, resumed_at)
    # tensorflow only writes event files here; left alone it would take the whole GPU.
    tf.config.set_visible_devices([], "GPU")
    events = metric_writers.SummaryWriter(os.path.join(folder, "tensorboard"))
    return metric_writers.MultiWriter([JsonlWriter(path), events])


def _drop_after(path, step):
    if not files.exists(path):
        return
    lines = files.read_text(path).splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    files.replace_file(path, "".join(kept))
