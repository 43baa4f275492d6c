"""The exchange on loopback: one deterministic market behind archive and REST, with faults on request.

What is served is decided by a seed and a clock, or by recorded files; nothing here is imported by the pipeline itself.
"""
