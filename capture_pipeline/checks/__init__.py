"""Gates: their specifications, results and severities."""
