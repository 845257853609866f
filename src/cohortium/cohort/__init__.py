"""Who is in a cohort: criteria and derived variables as SQL expressions, checked and computed."""
