"""What every component must keep, one check each, on models that take milliseconds.

A check builds what it needs from a case and raises `Broken` with the reason.
"""
