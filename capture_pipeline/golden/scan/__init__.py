"""One pass over a recording that counts lines and finds gaps, silences and snapshots of each stream."""
