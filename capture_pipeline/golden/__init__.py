"""Golden samples: validation, score, import, tables, comparison and proof of recorded sessions."""
