"""The proxy does what the other tests rely on: it hides nothing, counts right, and breaks what it was told to and no more."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

from buckets.proxy import Fault, Proxy, Rule, kind_of

BYTES = os.urandom(3 << 20)
# A failure, whatever obstore calls it.
FAILS = pytest.raises(Exception, match="(?s).+")


def client(endpoint: str, place: str) -> S3Store:
    """A client that tries nothing again."""
    return S3Store.from_url(
        place,
        endpoint=endpoint,
        region="us-east-1",
        client_options={"allow_http": True, "timeout": "20s"},
        retry_config={"max_retries": 0},
    )


@pytest.fixture
def near(proxy: Proxy, place: str) -> S3Store:
    """Through the proxy."""
    return client(proxy.endpoint, place)


@pytest.fixture
def far(server: str, place: str) -> S3Store:
    """The server itself: what is really there."""
    return client(server, place)


def there(store: S3Store) -> set[str]:
    return {each["path"] for page in obstore.list(store) for each in page}


def test_what_passes_is_unchanged_and_counted(proxy: Proxy, near: S3Store, far: S3Store) -> None:
    obstore.put(near, "chunks/ab/one", BYTES, use_multipart=False)
    assert bytes(obstore.get(far, "chunks/ab/one").bytes()) == BYTES
    assert bytes(obstore.get(near, "chunks/ab/one").bytes()) == BYTES
    assert bytes(obstore.get_range(near, "chunks/ab/one", start=5, end=1000)) == BYTES[5:1000]
    assert obstore.head(near, "chunks/ab/one")["size"] == len(BYTES)
    assert there(near) == {"chunks/ab/one"}
    assert proxy.traffic("PUT", "chunks").sent == len(BYTES)
    assert proxy.traffic("GET", "chunks").received == len(BYTES) + 995
    assert [proxy.traffic(method).requests for method in ("PUT", "GET", "HEAD", "LIST")] == [1, 2, 1, 1]
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(near, "chunks/ab/one", b"other", mode="create")
    with pytest.raises(FileNotFoundError):
        obstore.get(near, "nothing")
    obstore.put(near, "a name/with ?&%+ä", b"x", use_multipart=False)
    assert bytes(obstore.get(far, "a name/with ?&%+ä").bytes()) == b"x"
    obstore.delete(near, "chunks/ab/one")
    assert there(far) == {"a name/with ?&%+ä"}
    assert not proxy.injected


def put(store: S3Store) -> None:
    obstore.put(store, "runs/r/commits/c", BYTES, mode="create", use_multipart=False)


@pytest.mark.parametrize(
    ("fault", "is_done"),
    [
        (Fault.ERROR, False),
        (Fault.SLOW_DOWN, False),
        (Fault.CONFLICT, False),
        (Fault.TORN, False),
        (Fault.UNANSWERED, True),
        (Fault.WON_AND_LOST, True),
    ],
)
def test_a_write_fails_and_is_done_or_not(
    proxy: Proxy, near: S3Store, far: S3Store, fault: Fault, is_done: bool
) -> None:
    proxy.break_with(Rule(fault, method="PUT", kind="commits", times=1))
    with FAILS:
        put(near)
    assert proxy.injected == {fault: 1}
    assert there(far) == ({"runs/r/commits/c"} if is_done else set())
    # No more than once: the next one is told the truth.
    if is_done:
        with pytest.raises(obstore.exceptions.AlreadyExistsError):
            put(near)
    else:
        put(near)
    assert bytes(obstore.get(far, "runs/r/commits/c").bytes()) == BYTES


def test_an_answer_is_cut(proxy: Proxy, near: S3Store) -> None:
    put(near)
    proxy.break_with(Rule(Fault.CUT, kind="commits", times=1))
    with FAILS:
        obstore.get(near, "runs/r/commits/c").bytes()
    assert bytes(obstore.get(near, "runs/r/commits/c").bytes()) == BYTES
    assert proxy.injected == {Fault.CUT: 1}


def test_a_rule_befalls_only_what_it_names(proxy: Proxy, near: S3Store) -> None:
    proxy.break_with(Rule(Fault.ERROR, method="PUT", kind="parts"), Rule(Fault.SLOW_DOWN, method="DELETE"))
    put(near)
    there(near)
    with FAILS:
        obstore.delete(near, "runs/r/commits/c")
    assert proxy.injected == {Fault.SLOW_DOWN: 1}


def test_a_server_that_is_away_refuses_and_comes_back(proxy: Proxy, near: S3Store) -> None:
    put(near)
    proxy.away()
    with FAILS:
        there(near)
    proxy.back()
    assert there(near) == {"runs/r/commits/c"}


def test_the_same_seed_breaks_the_same_requests(server: str, place: str) -> None:
    def outcomes(seed: int) -> list[bool]:
        with Proxy(server, seed=seed) as proxy:
            proxy.break_with(Rule(Fault.ERROR, rate=0.5))
            store = client(proxy.endpoint, place)
            return [works(lambda: there(store)) for _ in range(20)]

    assert outcomes(1) == outcomes(1)
    assert True in outcomes(1)
    assert outcomes(1) != outcomes(2)


def works(call: Callable[[], Any]) -> bool:
    try:
        call()
    except Exception:
        return False
    return True


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("bucket/prefix/chunks/ab/abcd.1", "chunks"),
        ("bucket/prefix/runs/01ABC/commits/1-5-0", "commits"),
        ("bucket/prefix/runs/01ABC/run", "run"),
        ("bucket/prefix/runs/", "runs"),
        ("bucket/prefix/runtree.json", "runtree.json"),
        ("bucket/prefix/gc/7.closed", "gc"),
    ],
)
def test_kinds_are_folders_of_a_store(key: str, kind: str) -> None:
    assert kind_of(key) == kind
