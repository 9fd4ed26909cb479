"""The mapper of OPC-UA: the binary protocol over TCP (OPC 10000-4, -6, -7)."""
