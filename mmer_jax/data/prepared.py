"""A prepared dataset, read without tensorflow: an index of its utterances, its audio on demand."""

import contextlib
import functools
import hashlib
import itertools
import json
import os
import re

import tqdm
from etils import epath

from mmer_jax import files
from mmer_jax.errors import UserError, first_line, refusal

INDEX, FORMAT = "index.json", 1  # the index beside the shards; raised where an older one won't do
_DIGEST = ', "sha256": '  # what the index ends with: of all before it
# Columns that say who speaks, where, and which part of the corpus an utterance is of.
GROUPS = ("speaker", "session", "dialog", "part", "fold", "language")


class Prepared:
    """What `tfds build` made of one corpus.

    Args:
      data_dir: what `tfds build --data_dir` was given.
      dataset: the dataset's name and builder config, as in `speech_emotion/ravdess`.

    Attributes:
      name: the dataset's.
      folder, version: where the newest version is, and which it is.
      identity: name, version and 16 hex digits that change with its files, its recordings or their
        order.
      labels: of the dataset, in its order.
      rows: of each utterance what is known without its audio, see `_row`.

    Raises:
      UserError: nothing prepared there, or in a format without random access.
    """

    def __init__(self, data_dir: str, dataset: str):
        self.name, self.folder = dataset, _find(data_dir, dataset)
        self.version = os.path.basename(self.folder)
        index = _index(self.folder, tuple(sorted(_sizes(self.folder).items())))
        self.labels, self.rows = index["labels"], index["utterances"]
        recordings = [(row["id"], row["samples"], row.get("augmented")) for row in self.rows]
        digest = _digest(json.dumps([index["files"], recordings], sort_keys=True))[:16]
        self.identity = f"{dataset} {self.version} {digest}"
        self._places = [(split, row) for split, n in index["splits"].items() for row in range(n)]

    def example(self, row: int) -> dict:
        """All features of an utterance, by its place in `rows`; UserError where it is damaged."""
        split, place = self._places[row]
        with _whole(self.folder):
            example = self._sources[split][place]
        facts = self.rows[row]
        found = _text(example, "utterance"), len(example["audio"])
        if found != (facts["id"], facts["samples"]):
            raise UserError(_damaged(self.folder, f"{facts['id']} is not where it was"))
        return example

    @functools.cached_property
    def _sources(self):
        """Split -> random access to its examples."""
        builder = _builder(self.folder)
        return {split: _source(builder, split) for split in dict(self._places)}


@contextlib.contextmanager
def _whole(folder):
    """Makes what tfds and array_record raise of a damaged dataset an error that says so."""
    try:
        yield
    except UserError:
        raise
    except Exception as e:
        # A feature of features.json that tfds takes for one of another package is no lack of it.
        is_feature = isinstance(e, ValueError) and isinstance(e.__cause__, ImportError)
        if refusal(e) and not is_feature:
            raise
        raise UserError(_damaged(folder, first_line(e))) from e


def _damaged(folder, why):
    return (
        f"The dataset in {folder} can't be read ({why}): a file of it is truncated or damaged. "
        "Copy it again as a whole, or delete that folder and build it again by `tfds build` or "
        "`mmer data`."
    )


def _find(data_dir, dataset):
    """The folder of the newest version of a prepared dataset."""
    data_dir, (name, _, builder_config) = os.path.expanduser(data_dir), dataset.partition("/")
    folder = os.path.join(data_dir, name, builder_config)
    with contextlib.suppress(OSError, IndexError):
        names = (p.name for p in epath.Path(folder).iterdir())
        # Nothing but a version: a folder 1.0.0_old beside it is somebody's own.
        versions = [name for name in names if re.fullmatch(r"\d+\.\d+\.\d+", name)]
        versions.sort(key=lambda name: [int(n) for n in name.split(".")])
        newest = os.path.join(folder, versions[-1])
        if files.exists(os.path.join(newest, "dataset_info.json")):
            return newest
    elsewhere = "--config.data.dir=FOLDER (for a finished run --data_dir=FOLDER)"
    steps = f"""\
  1. Put the corpus into a folder MANUAL (datasets/{name}/README.md says what goes where) and run
       tfds build datasets/{name} --config={builder_config} --manual_dir=MANUAL --data_dir={data_dir}
  2. If it is prepared elsewhere, say where: {elsewhere}"""  # noqa: E501
    if name != "speech_emotion":
        steps = f"""\
  1. Without IEMOCAP, run the demo corpus instead: make demo, or without a clone: mmer data demo
  2. With IEMOCAP (ask for it at https://sail.usc.edu/iemocap/; the licence is free for research),
     put IEMOCAP_full_release/ or its .tar.gz into a folder MANUAL and run
       tfds build datasets/iemocap --manual_dir=MANUAL --data_dir={data_dir}
  3. If it is prepared elsewhere, say where: {elsewhere}"""
    raise UserError(f"No prepared dataset {dataset} in {data_dir} (config.data.dir).\n{steps}")


def _sizes(folder):
    """Bytes of each file of a prepared dataset: other ones are another dataset."""
    found = (p for p in epath.Path(folder).iterdir() if p.name != INDEX and p.name[0] != ".")
    return {p.name: p.stat().length for p in found}


@functools.lru_cache(maxsize=16)  # where it can't be stored, it is made once all the same
def _index(folder, sizes):
    """What `_make_index` gives: that of the last time, if the files are those it was made from."""
    path, sizes = os.path.join(folder, INDEX), dict(sizes)
    if files.exists(path):
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            text = files.read_text(path)
            body, _, end = text.rpartition(_DIGEST)
            stored = json.loads(text)
            is_whole = not body or end == f'"{_digest(body)}"}}'  # an older version's has no digest
            if is_whole and (stored.get("format"), stored.get("files")) == (FORMAT, sizes):
                return stored
    with _whole(folder):
        index = {"format": FORMAT, "files": sizes} | _make_index(folder)
    body = json.dumps(index)[:-1]
    with contextlib.suppress(OSError):  # a dataset that can only be read
        files.replace_file(path, f'{body}{_DIGEST}"{_digest(body)}"}}')
    return index


def _digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def _make_index(folder):
    """Labels, number of examples by split, and utterances with the names of their labels."""
    builder = _builder(folder)
    features = builder.info.features
    lacks = {"utterance", "audio", "label"} - features.keys()
    if lacks:
        raise UserError(
            f"The dataset in {folder} has no {', '.join(sorted(lacks))}. Build it by one of the "
            "builders in datasets/."
        )
    names = getattr(features["label"], "names", None)
    splits = sorted(builder.info.splits, key=natural)
    total = sum(builder.info.splits[s].num_examples for s in splits)
    counts, rows = {}, []
    with tqdm.tqdm(total=total, desc="indexing", unit=" utterances", disable=None) as bar:
        for split in splits:
            source = _source(builder, split)
            counts[split] = len(source)
            for example in source:
                rows.append(_row(example, names, split))
                bar.update()
    labels = names or (builder.info.metadata or {}).get("labels")
    labels = labels or sorted({row["label"] for row in rows})
    return {"labels": list(labels), "splits": counts, "utterances": rows}


def _row(example, names, split):
    """An utterance's facts as JSON, without those that are empty."""
    lengths = [int(n) for n in example.get("augmented_lengths", ())]
    starts = itertools.accumulate(lengths[:-1], initial=0)
    # Before version 1.1.0 of IEMOCAP's dataset nothing said whose voice it is.
    voices = (str(v, "utf-8") for v in example.get("augmented_voice", [b""] * len(lengths)))
    session = re.fullmatch(r"session(\d+)", split)
    row = {
        "id": _text(example, "utterance"),
        "label": names[int(example["label"])] if names else _text(example, "label"),
        "samples": len(example["audio"]),
        "transcript": _text(example, "transcript"),
        **{name: _text(example, "split" if name == "part" else name) for name in GROUPS},
        "aug_transcript": _text(example, "augmented_transcript"),
        "augmented": list(zip(starts, lengths, voices)),
    }
    row["session"] = row["session"] or (session[1] if session else "")  # IEMOCAP's: by its split
    return {name: value for name, value in row.items() if value or name == "samples"}


def _text(example, name):
    value = example.get(name, "")
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _builder(folder):
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(folder)


def _source(builder, split):
    try:
        return builder.as_data_source(split)
    except NotImplementedError as e:
        raise UserError(
            f"The dataset in {builder.data_dir} is stored as {builder.info.file_format}, which has "
            f"no random access. Build it again with `tfds build datasets/{builder.name} "
            "--overwrite --file_format=array_record`."
        ) from e


def natural(name: str) -> tuple:
    """A key that sorts names as people do: 2 before 10."""
    return [int(x) if i % 2 else x for i, x in enumerate(re.split(r"(\d+)", name))], name
