"""
What all replicas of the proxy have told, as if they were one proxy.

Each replica tells what happened in each second, as raw counts. Those of the same second are added,
durations bucket by bucket, so that a percentile of the sum is one: an average of the replicas'
percentiles would be none.

Replicas have clocks that differ and numbers of their own for their seconds. Neither is believed: a
second is put where it arrived. Replicas are told apart by who they say they are, not by the address
that was asked, so that one with two addresses counts once, and those that took turns behind one
address (a replica that was replaced; a virtual address) are each what they are.

Time is an argument here, as `now`, in seconds of a clock that never goes back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor
from typing import Final

from sillyproxy.rollout.sample import Sample, Window, beside
from sillyproxy.top.told import Answer, Status

MAX_HISTORY_S: Final = 900
# A second arrives up to one second old, and its answer may take another. What is further from where it
# is expected is a clock that drifts.
MAX_DRIFT_S: Final = 2.5
# Who has been silent for so long (and one interval) holds up the others' newest seconds no more.
SILENT_AFTER_S: Final = 2.0
# Clocks are this far apart before an event's time is corrected: less is the way of the answer.
MIN_SKEW_S: Final = 2.0
GONE_SHOWN_S: Final = 30.0

Identity = tuple[str, str, float]


class Proxy:
    """
    One running proxy, by what it told: `samples` by the second of our own clock in which they arrived.

    `heard_at` is when it told something last; `skew_s` what must be added to its clock to have ours.
    """

    def __init__(self) -> None:
        self.samples: dict[int, Sample] = {}
        self.status: Status | None = None
        self.epoch = ""
        self.history_s = 0  # how much of the past it was asked for
        self.newest_seq = -1
        self.oldest_seq = -1
        self.heard_at = 0.0
        self.skew_s = 0.0
        self._base: int | None = None

    @property
    def newest(self) -> int | None:
        """The newest second that it told of; None if it has told of none."""
        return self.newest_seq + self._base if self._base is not None and self.newest_seq >= 0 else None

    def add(self, samples: Sequence[Sample], seq: int, now: float) -> set[int]:
        """Take over samples that are new, `seq` being the newest there is; return the seconds they are in."""
        if self._base is None or abs(now - seq - self._base) > MAX_DRIFT_S:
            self._base = floor(now) - seq
        known = range(self.oldest_seq, self.newest_seq + 1) if self.newest_seq >= 0 else ()
        changed = set()
        for sample in samples:
            if sample.seq in known:
                continue
            second = sample.seq + self._base
            before = self.samples.get(second)
            # Two in one second, where a clock drifts: nothing is lost.
            self.samples[second] = sample if before is None else _one_after_the_other(before, sample)
            changed.add(second)
            if self.newest_seq < 0:
                self.oldest_seq = sample.seq
            self.newest_seq = max(self.newest_seq, sample.seq)
            self.oldest_seq = min(self.oldest_seq, sample.seq)
        return changed


def _one_after_the_other(first: Sample, second: Sample) -> Sample:
    window = Window((first, second))
    return replace(second, colors=window.colors, uncolored=window.uncolored)


@dataclass(slots=True)
class Replica:
    """
    An address at which a proxy is asked, and how that went.

    `target` is what the operator typed, `ip` where to connect to. `problem` is why there is no answer,
    empty if there is one; `is_asked`: there was one or the other. `gone_since`: since when its name has
    not had this address.
    """

    target: str
    address: str
    ip: str
    proxy: Proxy | None = None
    problem: str = ""
    is_asked: bool = False
    gone_since: float | None = None

    @property
    def is_up(self) -> bool:
        """Whether it answers."""
        return self.proxy is not None and not self.problem and self.gone_since is None

    def since(self) -> tuple[str, int] | None:
        """Return the epoch and the number of the newest second that is known; None if none is."""
        if self.proxy is None or self.proxy.newest_seq < 0:
            return None
        return self.proxy.epoch, self.proxy.newest_seq

    def earlier(self, history_s: int) -> tuple[str, int] | None:
        """Return epoch and number after which to ask, to know so much of the past; None if it is known."""
        proxy = self.proxy
        if proxy is None or proxy.newest_seq < 0 or proxy.history_s >= history_s:
            return None
        proxy.history_s = history_s
        wanted = max(0, proxy.newest_seq - history_s)
        return (proxy.epoch, wanted) if proxy.oldest_seq > wanted + 1 else None

    def fail(self, reason: str) -> None:
        """Note why it did not answer."""
        self.is_asked, self.problem = True, reason


class Fleet:
    """
    All replicas, by address; all proxies that were met at one, by who they are.

    `problems` are the names that could not be looked up, and why.
    """

    def __init__(self) -> None:
        self.replicas: dict[str, Replica] = {}
        self.proxies: dict[Identity, Proxy] = {}
        self.problems: dict[str, str] = {}
        self._merged: dict[int, Sample] = {}

    def found(self, target: str, addresses: Mapping[str, str], now: float) -> None:
        """Note the addresses (as shown, and to connect to) that a target has now."""
        self.problems.pop(target, None)
        for address, ip in addresses.items():
            replica = self.replicas.setdefault(address, Replica(target, address, ip))
            replica.gone_since = None
        for replica in self.replicas.values():
            if replica.target == target and replica.address not in addresses and replica.gone_since is None:
                replica.gone_since = now

    def not_found(self, target: str, reason: str) -> None:
        """Note why a target has no addresses. Those that it had are kept: they may be good."""
        self.problems[target] = reason

    def note(self, replica: Replica, answer: Answer, now: float, wall: float) -> None:
        """Take over what a replica answered; `wall` is our clock in seconds since 1970."""
        status = answer.status
        proxy = self.proxies.setdefault((status.hostname, answer.epoch, status.started_at), Proxy())
        proxy.epoch, proxy.status, proxy.heard_at = answer.epoch, status, now
        proxy.skew_s = wall - answer.time if abs(wall - answer.time) >= MIN_SKEW_S else 0.0
        replica.proxy, replica.is_asked, replica.problem = proxy, True, ""
        for second in proxy.add(answer.samples, answer.seq, now):
            self._merged.pop(second, None)

    def forget(self, now: float) -> None:
        """Forget what is older than anything that is shown, and the replicas that are gone for a minute."""
        oldest = floor(now) - MAX_HISTORY_S - 10
        for proxy in self.proxies.values():
            for second in [second for second in proxy.samples if second < oldest]:
                del proxy.samples[second]
        for second in [second for second in self._merged if second < oldest]:
            del self._merged[second]
        for replica in list(self.replicas.values()):
            if replica.gone_since is not None and now - replica.gone_since > GONE_SHOWN_S:
                del self.replicas[replica.address]
        asked = {id(replica.proxy) for replica in self.replicas.values()}
        for identity, proxy in list(self.proxies.items()):
            if not proxy.samples and id(proxy) not in asked:
                del self.proxies[identity]

    def end(self, now: float, interval_s: float) -> int:
        """
        Return the newest second that all have told of who still tell.

        What is newer is not the sum yet, and would look as if traffic had dropped.
        """
        newest = [
            second
            for proxy in self.proxies.values()
            if (second := proxy.newest) is not None and now - proxy.heard_at <= interval_s + SILENT_AFTER_S
        ]
        return min(newest, default=floor(now) - 1)

    def merged(self, end: int, seconds: int, wall_less_now: float) -> list[Sample]:
        """
        Return the sums of the last `seconds` seconds up to `end`, oldest first.

        Seconds that nobody told of are left out.
        `wall_less_now` makes seconds since 1970 of ours.
        """
        found = []
        for second in range(end - seconds + 1, end + 1):
            sample = self._merged.get(second)
            if sample is None:
                parts = [proxy.samples[second] for proxy in self.proxies.values() if second in proxy.samples]
                if not parts:
                    continue
                sample = self._merged[second] = side_by_side(parts, second, second + wall_less_now)
            found.append(sample)
        return found


def side_by_side(samples: Sequence[Sample], seq: int, time: float) -> Sample:
    """Return what happened on several proxies in the same second."""
    names = dict.fromkeys(name for sample in samples for name in sample.colors)
    colors = {}
    for name in names:
        parts = [sample.colors[name] for sample in samples if name in sample.colors]
        # Where a color is not configured nothing is asked of it: it is in the mean as well.
        share = sum(part.share_asked for part in parts) / len(samples)
        colors[name] = replace(beside(parts), share_asked=share)
    return Sample(
        seq,
        time,
        colors,
        seconds=sum(sample.seconds for sample in samples) / len(samples),
        uncolored=tuple(map(sum, zip(*(sample.uncolored for sample in samples), strict=True))),
    )
