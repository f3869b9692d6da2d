"""What the page of `mmer_jax.app` keeps of its visitors, and for how long."""

import asyncio
import collections
import contextlib
import os
import secrets
import threading
import time

VISITORS = 128  # the last ones, of whom the page knows anything: some 170 kB each


class Recordings:
    """The files that pages have: uploads, and copies of examples."""

    def __init__(self):
        self._pages = collections.Counter()  # path -> pages with it: equal uploads share a file
        self._lock = threading.Lock()

    def forget(self, path: str | None, before: str | None) -> str | None:
        """Removes the file that a page had before, if it has another one now, or none.

        Not while another page has it; one that is closed counts on, and `remove_old` removes it.

        Returns:
          The path.
        """
        if before == path:
            return path
        with self._lock:
            for gone in [x for x in self._pages if not os.path.exists(x)]:
                del self._pages[gone]
            if path:
                self._pages[path] += 1
            if before:
                self._pages[before] -= 1
                if self._pages[before] <= 0:
                    del self._pages[before]
                    with contextlib.suppress(OSError):  # removed meanwhile
                        os.unlink(before)
        return path


def write(example) -> tuple[str, str]:
    """(path, text) of an `Example`: a file of its own each time, for a page forgets its own."""
    folder = os.path.join(os.environ["GRADIO_TEMP_DIR"], secrets.token_hex(32))
    os.makedirs(folder)
    path = os.path.join(folder, "example.wav")
    with open(path, "wb") as f:
        f.write(example.wav)
    return path, example.text


def keep(path: str | None) -> None:
    """A page is open that has this file: it is as new."""
    with contextlib.suppress(OSError, TypeError):  # removed meanwhile, or none
        os.utime(path)


def remove_old(folder: str, seconds: float) -> None:
    """Removes files below a folder that were not touched for so long, and folders they leave."""
    for place, folders, names in os.walk(folder, topdown=False):
        for remove, found in ((os.unlink, names), (os.rmdir, folders)):
            for path in (os.path.join(place, name) for name in found):
                with contextlib.suppress(OSError):  # removed meanwhile, or a folder with files
                    if time.time() - os.lstat(path).st_mtime > seconds:
                        remove(path)


def remove_old_while(running, folder: str, seconds: float) -> None:
    """In a thread: `remove_old` again and again, as long as `running()`.

    Gradio's own (`delete_cache`) ends for ever when an upload comes while it looks.
    """

    def work():
        while running():
            time.sleep(seconds / 10)
            remove_old(folder, seconds)

    threading.Thread(target=work, name="remove old recordings", daemon=True).start()


def bound(blocks) -> None:
    """Limits what Gradio's queue keeps of questions that were answered long ago.

    6.17.3 keeps every one, with its request (gradio-app/gradio#13756). Versions that don't need
    another huggingface_hub than transformers 4 does.
    """
    queue = blocks._queue
    # What is read in place of one that is not there any more, so that no question ends the queue.
    kept = {
        "pending_messages_per_session": asyncio.Queue, "pending_event_ids_session": set,
        "event_analytics": dict, "event_ids_to_events": None,
    }  # fmt: skip
    for name, missing in kept.items():
        if isinstance(getattr(queue, name, None), dict):
            setattr(queue, name, _Last(missing))
    if isinstance(getattr(queue, "_asyncio_tasks", None), list):
        queue._asyncio_tasks = collections.deque(maxlen=VISITORS)


class _Last(collections.OrderedDict):
    """Of the last `VISITORS` that were added or looked for: who waits is looked for all the time.

    Args:
      missing: makes the value of a key that is not there; None: it is an error.
    """

    def __init__(self, missing):
        super().__init__()
        self._missing = missing

    def __contains__(self, key):
        found = super().__contains__(key)
        if found:
            self.move_to_end(key)
        return found

    def __missing__(self, key):
        if self._missing is None:
            raise KeyError(key)
        return self._missing()

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        if len(self) > VISITORS:
            self.popitem(last=False)
