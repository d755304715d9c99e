"""Conversational recommender systems: from raw dialogues to trusted figures and a conversation."""

__version__ = "0.1.0"
