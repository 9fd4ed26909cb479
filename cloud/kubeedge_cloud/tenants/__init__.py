"""Tenants, their nodes, and which numbers and addresses these have."""

from kubeedge_cloud.tenants.manager import TenantManager
from kubeedge_cloud.tenants.model import NodeRecord, TenantRecord

__all__ = ["NodeRecord", "TenantManager", "TenantRecord"]
