"""The consortium's ledger: an append-only Merkle log that every institution's node witnesses."""
