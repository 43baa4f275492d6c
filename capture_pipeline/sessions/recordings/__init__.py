"""Reader of recordings: from the bytes of a file to blocks of whole lines, with damage and digest."""
