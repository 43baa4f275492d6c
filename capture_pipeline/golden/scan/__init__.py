"""One pass over a recording: ids, gaps and snapshots of each stream."""
