"""How long a prepared corpus takes to open: `python -m benchmarks.opening`.

The corpus is noise, made for it. The first opening reads all of it once and writes the index beside
the shards; every later one, in a process of its own, reads the index alone.
"""

import json
import sys
import tempfile

import numpy as np

from benchmarks import common

UTTERANCES, TINY = 10_000, 50
DATASET = "speech_emotion/noise"
_OPEN = f"""
import sys, time
from mmer_jax.data.corpus import Corpus
began = time.perf_counter()
corpus = Corpus(sys.argv[1], {DATASET!r})
print([len(corpus.utterances), time.perf_counter() - began])
"""


def prepare(data_dir: str, utterances: int, seconds: float) -> None:
    """Prepares `speech_emotion/noise` of 100 speakers and four labels."""
    import tensorflow_datasets as tfds

    rng, text = np.random.default_rng(0), tfds.features.Text
    features = {name: text() for name in ("utterance", "label", "speaker", "transcript")}
    features["audio"] = tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes")
    samples = round(seconds * 16_000)
    rows = (
        (i, {
            "utterance": f"u{i}", "label": common.LABELS[i % 4], "speaker": f"{i % 100}",
            "transcript": "what is said in an utterance of some length",
            "audio": rng.integers(-3000, 3000, samples, np.int16),
        })
        for i in range(utterances)
    )  # fmt: skip
    tfds.dataset_builders.store_as_tfds_dataset(
        *DATASET.split("/")[:1], "1.0.0", tfds.features.FeaturesDict(features),
        {"utterances": rows}, config=DATASET.split("/")[1], data_dir=data_dir,
        file_format="array_record", disable_shuffling=True,
    )  # fmt: skip


def measure(utterances: int, seconds: float) -> dict:
    """`first` and `later`: seconds of an opening without and with an index."""
    with tempfile.TemporaryDirectory() as data_dir:
        common.progress(f"preparing {utterances} utterances")
        prepare(data_dir, utterances, seconds)
        found = {}
        for name in ("first", "later"):
            common.progress(f"opening: {name}")
            output = common.child(["-c", _OPEN, data_dir])["output"]
            opened, found[name] = json.loads(output)
            assert opened == utterances
    common.progress("")
    return found


def main(argv=None) -> None:
    """Prints the table and writes opening.json."""
    parser = common.parser(__doc__)
    parser.add_argument("--utterances", type=int, default=UTTERANCES)
    parser.add_argument("--seconds", type=float, default=3.0, help="of audio, of each")
    flags = parser.parse_args(argv)
    utterances, seconds = (TINY, 0.1) if flags.tiny else (flags.utterances, flags.seconds)
    found = measure(utterances, seconds)
    rows = [["first, makes the index", found["first"]], ["later", found["later"]]]
    title = f"Opening a corpus of {utterances} utterances of {seconds:g} s"
    text = f"{title}\n\n{common.table(['opening', 'seconds'], rows)}"
    common.report(flags, "opening", {"opening": found}, text)


if __name__ == "__main__":
    sys.exit(main())
