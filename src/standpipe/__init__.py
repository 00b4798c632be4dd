"""Standpipe turns one model into a free, keyless, public chat API that stays fair, safe and up."""

__version__ = "0.1.0"
