"""Work next to the recording: snapshots of books and requests for lost trades."""
