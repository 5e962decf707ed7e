"""Making things ahead of their reader, in a thread: what is made waits, in order, and bounds the memory.

Added here: another way to overlap making and taking. Not here: what is made.
"""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

AHEAD = 2
"""Items that may wait where nobody says otherwise."""
Item = TypeVar("Item")


def read_ahead(items: Iterable[Item], waiting: int = AHEAD) -> Generator[Item]:
    """`items` in order, so many next ones made in a thread meanwhile; what making one raises is raised at its turn."""
    source = iter(items)
    with ThreadPoolExecutor(1) as maker:
        made = deque(maker.submit(next, source, None) for _ in range(waiting))
        try:
            while (item := made.popleft().result()) is not None:
                made.append(maker.submit(next, source, None))
                yield item
        finally:
            maker.shutdown(cancel_futures=True)
