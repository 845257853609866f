"""What runs inside a sandbox, beside the task: the standard library only, no key and no network."""
