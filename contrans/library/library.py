"""The library of a person: everything that is done with concepts by name and version."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contrans.library import changes, diff, sync
from contrans.library.changes import Added, Problem, Removed
from contrans.library.lineage import Node, ancestors
from contrans.library.store import Progress, Store
from contrans.library.sync import Moved


class Library(Store):
    """Concepts by name and version, in a folder or at an address that fsspec reads.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     added = Library(folder).add("anger", name="rage")
        >>> added.entry.label, added.entry.kind, added.new
        ('rage@1', 'pairs', True)
    """

    def add(
        self,
        path: str | Path,
        *,
        name: str,
        note: str = "",
        parents: Sequence[str] = (),
    ) -> Added:
        """Keep what a path holds as the next version of a name.

        Args:
            path: a file of pairs, the name of a built-in pack, a vector, a map, or a
                folder that `contrans transplant` wrote.
            name: what to call it.
            note: a line for people.
            parents: references of what it was made from; those that its own provenance
                tells are found without.

        Raises:
            FileNotFoundError, ValueError: when there is nothing usable.
            KeyError: for an unknown parent.
        """
        return changes.add(self, path, name=name, note=note, parents=parents)

    def remove(
        self, reference: str, *, force: bool = False, prune: bool = False
    ) -> Removed:
        """Take an entry out; its number is never given again. See `changes.remove`.

        Args:
            reference: `name`, `name@version` or the start of an id.
            force: also when others were made from it.
            prune: delete its files too, where no other entry holds them.
        """
        return changes.remove(self, reference, force=force, prune=prune)

    def verify(self, progress: Progress | None = None) -> tuple[Problem, ...]:
        """Hash every file again; see `changes.verify`."""
        return changes.verify(self, progress)

    def pull(
        self,
        remote: Store | str | Path,
        references: Sequence[str] = (),
        *,
        renumber: bool = False,
        progress: Progress | None = None,
    ) -> Moved:
        """Copy entries from another library into this one; see `sync.pull`.

        Args:
            remote: the other library, or where it is.
            references: which entries; none means all.
            renumber: give a new number to a version that is taken.
            progress: called with (done, total).
        """
        return sync.pull(self, remote, references, renumber=renumber, progress=progress)

    def push(
        self,
        remote: Store | str | Path,
        references: Sequence[str] = (),
        *,
        progress: Progress | None = None,
    ) -> Moved:
        """Copy entries from this library into another one; see `sync.push`.

        Args:
            remote: the other library, or where it is.
            references: which entries; none means all.
            progress: called with (done, total).
        """
        return sync.push(self, remote, references, progress=progress)

    def diff(self, one: str, other: str) -> dict[str, Any]:
        """Two entries side by side; see `diff.diff`."""
        return diff.diff(self, one, other)

    def tree(self, reference: str) -> Node:
        """What an entry was made from; `lineage.draw` makes lines of it."""
        return ancestors(self.find(reference), self.list())
