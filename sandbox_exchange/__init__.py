"""Sandbox exchange on loopback: archive, REST and streams of one deterministic market, with scripted faults.

A seed and a clock, or recorded files, decide what is served. The pipeline itself imports nothing from this
package.
"""
