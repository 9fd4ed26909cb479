"""The certificate authority of one installation, the keys that sign tokens, and what else needs the cryptography library.

Lives elsewhere: an agent's own keys and requests (kubeedge.pki.csr), which need none; server certificates of this process (kubeedge_cloud.certificates).
"""
