"""Programs that run on lent data: executors, evidence of where they run, and their tasks."""
