"""The vault: files that only their recipients can read, and of which no byte can be changed unseen.

Each module needs those above it only:

    header.py      what stands before the content: identity, version, writer, recipients
    keys.py        private and public keys, key rings, the wrapping of data keys (HPKE)
    chunks.py      the content: chunks under AES-256-GCM, their places and nonces
    grants.py      a data key for further recipients, beside a file that stays as it is
    anchor.py      which version of a file was the last: an old one put back is noticed
    storage.py     where the encrypted bytes are
    reader.py      `VaultReader`: seek, read, pread; decrypts the chunks it touches
    writer.py      `VaultWriter`: writes on, and is there only once it is closed
    filesystem.py  ``vault://`` for fsspec
"""
