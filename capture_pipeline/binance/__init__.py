"""Interfaces of the exchange: archive, REST and streams. Nothing here reads or writes a file of the lake."""
