"""Outline -> text, markdown or HTML; story -> DataFrame. Each output is a file of its own."""
