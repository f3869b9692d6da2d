"""What this installation has to work with: `python -m mmer_jax.doctor`, or with encoders' folders.

Versions, devices, free disk space, and the encoders that need no download.
"""

import contextlib
import json
import os
import platform
import shutil
import sys
from importlib import metadata

import mmer_jax
from mmer_jax import cli
from mmer_jax.errors import UserError, installing
from mmer_jax.models.encoders import ENCODERS

# Of a package whose module has another name.
_MODULES = {"tensorflow-datasets": "tensorflow_datasets", "espeakng-loader": "espeakng_loader",
            "apache-beam": "apache_beam"}  # fmt: skip
PACKAGES = (
    "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "numpy", "scipy",
    "tensorflow", "tensorflow-datasets", "grain", "matplotlib", "apache-beam", "espeakng-loader",
    "sentencepiece", "torch", "gradio",
)  # fmt: skip


def run(folders=()) -> str:
    """The report, as aligned lines; what the command prints.

    Args:
      folders: of encoders in Hugging Face's format, to be looked at besides the hub's cache.

    Raises:
      UserError: a folder that is no encoder.
    """
    parts = {
        "versions": [("mmer_jax", mmer_jax.__version__), ("python", _python()), *_versions()],
        "devices": _devices(),
        "free disk space": _disks(),
        "encoders that need no download": [*_of_folders(folders), *_of_hub()],
    }
    lines = []
    for title, rows in ((title, list(rows)) for title, rows in parts.items()):
        width = max(len(name) for name, _ in rows)
        lines += [f"{title}:", *(f"  {name:<{width}}  {value}" for name, value in rows)]
    return "\n".join(lines)


def _python():
    return f"{platform.python_version()} ({sys.executable}, {platform.platform(terse=True)})"


def _versions():
    for name in PACKAGES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, f"not there: {installing(_MODULES.get(name, name))}"


def _devices():
    try:
        import jax

        for device in jax.devices():
            memory = (device.memory_stats() or {}).get("bytes_limit")
            size = f"{memory / 2**30:.0f} GiB" if memory else f"{os.cpu_count()} cores"
            yield str(device), f"{device.device_kind}, {size}"
    except (ImportError, RuntimeError) as e:  # a driver that does not fit
        yield "none", str(e).split("\n")[0]


def _disks():
    from huggingface_hub import constants

    places = {"here": ".", "compiled programs": cli.CACHE, "hub's cache": constants.HF_HUB_CACHE}
    for name, place in places.items():
        path = there = os.path.abspath(os.path.expanduser(place))
        while not os.path.exists(there):
            there = os.path.dirname(there)
        yield name, f"{shutil.disk_usage(there).free / 2**30:.1f} GiB of {path}"


def _of_folders(folders):
    for folder in folders:
        if not (kind := _kind(os.path.expanduser(folder))):
            raise UserError(
                f"{folder} holds no config.json of an encoder that is supported; expected "
                f"model_type one of {', '.join(sorted(ENCODERS))}."
            )
        yield folder, kind


def _of_hub():
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    found = []
    with contextlib.suppress(CacheNotFound):
        for repo in scan_cache_dir().repos:
            kinds = [_kind(str(revision.snapshot_path)) for revision in repo.revisions]
            found += [(repo.repo_id, kind) for kind in filter(None, kinds[:1])]
    offline = "; HF_HUB_OFFLINE is set, so none can be had" if constants.HF_HUB_OFFLINE else ""
    return sorted(found) or [("none in the hub's cache", constants.HF_HUB_CACHE + offline)]


def _kind(folder):
    """Modality and model type of the encoder in a folder; "" where there is none of ours."""
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError, RecursionError):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
            model_type = json.load(f).get("model_type")
        weights = [
            n for n in os.listdir(folder) if n.endswith((".safetensors", ".bin", ".msgpack"))
        ]
        if model_type in ENCODERS:
            kind = f"{ENCODERS[model_type].modality}, {model_type}"
            return kind if weights else f"{kind}, without weights"
    return ""


def main(argv: list[str] | None = None) -> int:
    """The command; 1 and one message where something is wrong."""
    parser = cli.Parser(prog="python -m mmer_jax.doctor", description=__doc__)
    parser.add_argument(
        "folders", nargs="*", metavar="FOLDER", help="of an encoder in Hugging Face's format"
    )
    args = parser.parse_args(argv)
    return cli.attempt(lambda: print(run(args.folders)), "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
