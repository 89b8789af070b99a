"""The memory of a launch, and a look at every access: bounds, alignment, races, reads of what nobody has written."""

import ctypes

import numpy as np

# Where shared memory lies among generic addresses: beyond any address of the host.
SHARED_WINDOW = 1 << 56


class PtxError(RuntimeError):
    """A kernel broke a rule; the message names the instruction."""


class Touches:
    """Who touched each byte of a region last: its block, the epoch between its barriers, and its thread."""

    def __init__(self, n_bytes):
        self.block = np.full(n_bytes, -1, dtype=np.int64)
        self.epoch = np.zeros(n_bytes, dtype=np.int64)
        self.thread = np.zeros(n_bytes, dtype=np.int32)
        self.many = np.zeros(n_bytes, dtype=bool)  # threads, in that epoch

    def race(self, at, block, epoch, thread):
        """Whether the last touch is not ordered before this one."""
        same_epoch = (self.epoch[at] == epoch) & (self.many[at] | (self.thread[at] != thread))
        return (self.block[at] >= 0) & ((self.block[at] != block) | same_epoch)

    def note(self, at, block, epoch, thread):
        again = (self.block[at] == block) & (self.epoch[at] == epoch)
        many = again & (self.many[at] | (self.thread[at] != thread))
        self.block[at], self.epoch[at] = block, epoch
        self.thread[at] = thread  # one of those that come together
        self.many[at] = many
        together = self.thread[at] != thread
        self.many[at[together]] = True


class Region:
    """An array that kernels may read, and write when it is not `read_only`."""

    def __init__(self, begin, data, name, read_only=False, written=None):
        self.begin, self.end, self.data, self.name = begin, begin + data.size, data, name
        self.read_only = read_only
        self.loads = np.zeros(data.size, dtype=np.uint8) if read_only else None
        self.written = written
        self.writes, self.reads = (None, None) if read_only else (Touches(data.size), Touches(data.size))

    @classmethod
    def of_host(cls, begin, n_bytes, name, read_only, written=None):
        """A region of this process's memory."""
        data = np.frombuffer((ctypes.c_uint8 * n_bytes).from_address(begin), dtype=np.uint8)
        return cls(begin, data, name, read_only, written)

    def check(self, at, block, epoch, thread, write):
        """What is wrong with an access to the bytes `at` (accesses, bytes), or None."""
        if self.read_only:
            return "not to be written" if write else None
        if self.writes.race(at, block, epoch, thread).any():
            return "race with a write"
        if not write and not self.written[at].all():
            return "not written before"
        if write and self.reads.race(at, block, epoch, thread).any():
            return "race with a read"
        if write and np.unique(at).size < at.size:
            return "two threads write one byte"
        return None

    def read(self, at, block, epoch, thread):
        if self.read_only:
            np.add.at(self.loads, at, 1)
        else:
            self.reads.note(at, block, epoch, thread)
        return self.data[at]

    def write(self, at, block, epoch, thread, numbers):
        self.writes.note(at, block, epoch, thread)
        self.written[at] = True
        self.data[at] = numbers


class Memory:
    """All regions of one launch."""

    def __init__(self, regions):
        self.regions = sorted(regions, key=lambda region: region.begin)
        self.begins = np.array([region.begin for region in self.regions], dtype=np.int64)

    def split(self, addresses):
        """Pairs of a region, None for no region, and which of the addresses lie in it."""
        number = np.searchsorted(self.begins, addresses, side="right") - 1
        if (number == number[0]).all():
            yield (self.regions[number[0]] if number[0] >= 0 else None), slice(None)
            return
        for which in np.unique(number):
            yield (self.regions[which] if which >= 0 else None), np.flatnonzero(number == which)

    def access(self, addresses, n_bytes, block, epoch, threads, numbers=None):
        """Read `n_bytes` at each address, or write the rows of `numbers`; the bytes read, (accesses, n_bytes)."""
        write = numbers is not None
        if (addresses % n_bytes).any():
            raise PtxError(f"misaligned {'write' if write else 'read'} of {n_bytes} bytes")
        found = np.empty((addresses.size, n_bytes), dtype=np.uint8)
        for region, which in self.split(addresses):
            if region is None or (addresses[which] + n_bytes > region.end).any():
                raise PtxError(f"out of bounds{f' of {region.name}' if region else ''}")
            at = (addresses[which] - region.begin)[:, None] + np.arange(n_bytes)
            thread = threads[which][:, None]
            wrong = region.check(at, block, epoch, thread, write)
            if wrong:
                raise PtxError(f"{wrong}: {region.name}")
            if write:
                region.write(at, block, epoch, thread, numbers[which])
            else:
                found[which] = region.read(at, block, epoch, np.broadcast_to(thread, at.shape))
        return found
