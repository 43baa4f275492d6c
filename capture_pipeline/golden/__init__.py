"""Golden samples: validation, quality score, import, typed tables, comparison and proof of recorded sessions."""
