"""The hub: membership, contracts, scheduling, sums and results of a consortium."""
