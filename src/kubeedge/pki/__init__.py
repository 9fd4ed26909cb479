"""Who may speak: identities, certificate authority, bootstrap tokens, TLS contexts."""
