"""Work beside the recording: snapshots of books and requests for lost trades."""
