"""A whole consortium in one process: the same hub, nodes, contract and masks, without a network."""
