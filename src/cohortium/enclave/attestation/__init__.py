"""Remote attestation (RFC 9334): evidence in, a verdict out; no network, no clock of its own.

Each verifier is a pure function of evidence, endorsements, an explicit policy and the time.
"""
