"""Experiments that take hours: each can be stopped, and goes on where it was."""
