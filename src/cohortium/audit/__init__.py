"""Checking afterwards, offline and from public keys alone, what happened under a contract."""
