"""Any OpenAI-compatible endpoint: what is asked of it, what it answers, and who asks."""

from crscli.llm.client import Endpoint, Llm, Usage
from crscli.llm.prompts import Completer, Completion, Message, Request

__all__ = ["Completer", "Completion", "Endpoint", "Llm", "Message", "Request", "Usage"]
