"""The corpora: the builder's config -> its reader. A new one is a module, and its name here."""

from ..rows import Reader
from . import crema_d, emodb, esd, meld, ravdess, savee, table, tess

READERS: dict[str, Reader] = {
    name: reader
    for module in (table, crema_d, emodb, esd, meld, ravdess, savee, tess)
    for name, reader in module.READERS.items()
}
