"""Why a forward failed and what to do: from sizes, dtypes and settings, never from torch's wording alone.

``explain.py`` is imported where a forward has failed: with its files it would be a tenth of a first summary.
"""
