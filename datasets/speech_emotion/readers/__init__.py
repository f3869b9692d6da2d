"""The corpora: name of the builder's config -> its reader. A new one is a module and a line."""

from ..rows import Reader
from . import ravdess, table

READERS: dict[str, Reader] = table.READERS | ravdess.READERS
