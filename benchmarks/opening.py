"""How long a prepared corpus takes to open, and how much memory: `python -m benchmarks.opening`.

The corpus is noise, made for it. The first opening reads all of it once and writes the index beside
the shards; every later one, in a process of its own, reads the index alone.
"""

import json
import sys
import tempfile

from benchmarks import common

UTTERANCES, TINY = 10_000, 50
_OPEN = f"""
import sys, time
from mmer_jax.data.corpus import Corpus
began = time.perf_counter()
corpus = Corpus(sys.argv[1], {common.NOISE!r})
print([len(corpus.utterances), time.perf_counter() - began])
"""


def measure(utterances: int, seconds: float) -> dict:
    """`first` and `later`, an opening without and with an index: `seconds`, and `peak_gib`."""
    with tempfile.TemporaryDirectory() as data_dir:
        common.progress(f"preparing {utterances} utterances")
        samples = round(seconds * common.SAMPLE_RATE)
        rows = [
            {
                "label": common.LABELS[i % 4], "speaker": f"{i % 100}", "samples": samples,
                "transcript": "what is said in an utterance of some length",
            }
            for i in range(utterances)
        ]  # fmt: skip
        common.prepare_noise(data_dir, rows)
        found = {}
        for name in ("first", "later"):
            common.progress(f"opening: {name}")
            process = common.child(["-c", _OPEN, data_dir])
            opened, seconds = json.loads(process["output"])
            assert opened == utterances
            found[name] = {"seconds": seconds, "peak_gib": process["peak_gib"]}
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
    titles = {"first": "first, makes the index", "later": "later"}
    rows = [[title, *found[name].values()] for name, title in titles.items()]
    title = f"Opening a corpus of {utterances} utterances of {seconds:g} s"
    text = f"{title}\n\n{common.table(['opening', 'seconds', 'peak, GiB'], rows)}"
    common.report(flags, "opening", {"opening": found}, text)


if __name__ == "__main__":
    sys.exit(main())
