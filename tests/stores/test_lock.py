"""The lock of a run at a server that ends its connection: the run goes no further, and says why."""

from __future__ import annotations

from contextlib import closing

import pytest
import sqlalchemy as sa
from taskflow.exceptions import StorageFailure
from tenacity import Retrying, retry_if_not_exception_type, stop_after_delay, wait_fixed

from pumphouse.run import lock
from pumphouse.run.lock import is_locked, locked
from pumphouse.store import open_store
from tests.stores.servers import Server

# What ends the connection that holds a lock, as a restart of the server does; and whose it is.
ENDS = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2",
    "mysql": "KILL {}",
}


@pytest.mark.parametrize("kind", ENDS)
def test_a_lock_that_is_lost_ends_the_run(
    kind: str, installed: None, servers: dict[str, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_WATCH_S", 0.2)
    with closing(open_store(servers[kind].new_url())) as store, locked(store, "shop", str):
        assert is_locked(store, "shop")
        with store.engine.connect() as connection:
            if kind == "mysql":
                name = lock._mysql_name(lock._key("shop"))
                holder = connection.scalar(sa.select(sa.func.is_used_lock(name)))
                connection.exec_driver_sql(ENDS[kind].format(holder))
            else:
                connection.exec_driver_sql(ENDS[kind])
        again = Retrying(
            retry=retry_if_not_exception_type(StorageFailure), wait=wait_fixed(0.1), stop=stop_after_delay(20)
        )
        with pytest.raises(StorageFailure, match="the lock of the tenant is lost"):
            again(_refused, store)


def _refused(store: object) -> None:
    store.get_connection()  # type: ignore[attr-defined]
    raise AssertionError("it still takes what happens")
