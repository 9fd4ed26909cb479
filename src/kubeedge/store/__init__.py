"""Metadata with revisions: one half of the paper's EdgeMetadataService (section 3.2).

Lives here:      the contract (model), the readable implementation (memory), the durable one (sqlite).
Lives elsewhere: synchronisation between two stores (kubeedge.sync), etcd (kubeedge_cloud).
"""

from kubeedge.store.model import (
    Change,
    ChangeKind,
    Compare,
    CompareTarget,
    Delete,
    Get,
    KeyValue,
    Op,
    Put,
    RangeResult,
    Store,
    TxnResult,
    WatchBatch,
)

__all__ = [
    "Change",
    "ChangeKind",
    "Compare",
    "CompareTarget",
    "Delete",
    "Get",
    "KeyValue",
    "Op",
    "Put",
    "RangeResult",
    "Store",
    "TxnResult",
    "WatchBatch",
]  # fmt: skip
