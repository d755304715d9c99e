"""What goes in and out of the service, as OpenAPI describes it. Knows how things are called, not how they are done."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

MESSAGES_AT_MOST = 100
TEXT_AT_MOST = 2_000
"""Characters of a message of the user."""
ITEMS_AT_MOST = 50

ErrorKind = Literal["invalid_request_error", "authentication_error", "rate_limit_error", "server_error"]
_KINDS: dict[int, ErrorKind] = {401: "authentication_error", 429: "rate_limit_error"}


class Refused(Exception):
    """A request that is not answered, and why."""

    def __init__(
        self, status: int, message: str, code: str, *, param: str | None = None, wait_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.wait_s = status, message, code, param, wait_s

    def to_json(self) -> dict[str, Any]:
        """In the form that OpenAI's clients read."""
        kind = _KINDS.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def _whole(text: str) -> str:
    """Halves of characters, which JSON can hold and UTF-8 cannot, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


Text = Annotated[str, AfterValidator(_whole)]
Name = Annotated[str, Field(max_length=512)]
SessionId = Annotated[
    str, Field(max_length=128, description="Names a conversation that was begun; from `crs.session_id`.")
]


class TextPart(BaseModel):
    """A part of a message; only text is understood."""

    type: Literal["text"]
    text: Text


class Message(BaseModel):
    """What was said. Those of the system are not read: there is nobody to instruct."""

    role: Literal["user", "assistant", "system", "developer", "tool", "function"]
    content: Text | list[TextPart] | None = Field(None, description=f"Of the user {TEXT_AT_MOST:,} characters at most.")

    @property
    def text(self) -> str:
        """All of it as one text."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


Messages = Annotated[list[Message], Field(max_length=MESSAGES_AT_MOST)]


class StreamOptions(BaseModel):
    """How a stream ends."""

    include_usage: bool | None = None


class ChatRequest(BaseModel):
    """As OpenAI's; what is not listed here is passed over."""

    messages: Annotated[Messages, Field(min_length=1, description="The last one is the user's.")]
    model: Name | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = 1
    user: Name | None = Field(None, description="Passed over.")
    session_id: SessionId | None = Field(
        None, description="Go on with this conversation; of the messages only what the user said last is read."
    )


class RecommendationsRequest(BaseModel):
    """A conversation to recommend for: messages, a session, or what would be said next in one."""

    messages: Messages | None = None
    session_id: SessionId | None = None
    model: Name | None = None
    limit: int = Field(10, ge=1, le=ITEMS_AT_MOST)


class OpinionRequest(BaseModel):
    """What the user thinks of an item."""

    session_id: SessionId
    item_id: Name
    opinion: Literal["liked", "disliked", "seen"]


class ReasonBody(BaseModel):
    """What carried a recommendation; `evidence` is an item's id, a word or a name, by the kind."""

    kind: str
    evidence: str
    share: float


class People(BaseModel):
    """Who made a film."""

    directors: list[str]
    cast: list[str]


class Card(BaseModel):
    """An item as it is shown; `facts` is a line of genres, length and language, `why` the strongest reasons."""

    item_id: str
    title: str
    year: int | None
    genres: list[str]
    facts: str
    people: People
    plot: str
    why: str
    reasons: list[ReasonBody]
    opinion: str | None = None


class Crs(BaseModel):
    """What a chat of OpenAI has no place for.

    `act` is what the reply does: recommend, ask, tell, explain or chat; `wishes` what the conversation now keeps to;
    `relaxed` those of them that the items do not keep to; `question` the topic of the question that ends the reply.
    """

    session_id: str
    act: str
    items: list[Card]
    wishes: list[str]
    relaxed: list[str]
    question: str | None


class AssistantMessage(BaseModel):
    """The reply."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    """The only one there is."""

    index: int = 0
    message: AssistantMessage
    finish_reason: Literal["stop"] = "stop"


class Usage(BaseModel):
    """Words, where OpenAI counts tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """As OpenAI's, and `crs`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    crs: Crs


class Recommendations(BaseModel):
    """Items, best first."""

    object: Literal["list"] = "list"
    model: str
    data: list[Card]
    wishes: list[str]
    relaxed: list[str]


class Marked(BaseModel):
    """An opinion that was taken down."""

    session_id: str
    item_id: str
    opinion: str


class TurnBody(BaseModel):
    """What was said, with the items that it recommended."""

    role: Literal["user", "assistant"]
    text: str
    items: list[Card]


class SessionBody(BaseModel):
    """A conversation; times are seconds since 1970."""

    id: str
    object: Literal["session"] = "session"
    created: int
    expires: int
    turns: list[TurnBody]
    opinions: dict[str, str]
    wishes: list[str]


class Deleted(BaseModel):
    """A conversation that is no more."""

    id: str
    object: Literal["session.deleted"] = "session.deleted"
    deleted: bool = True


class ModelBody(BaseModel):
    """A model that can be named."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "crs"


class Models(BaseModel):
    """The one that answers."""

    object: Literal["list"] = "list"
    data: list[ModelBody]


class Health(BaseModel):
    """That the service answers."""

    status: Literal["ok"] = "ok"


class ErrorDetail(BaseModel):
    """What was found and expected, in words."""

    message: str
    type: ErrorKind
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """As OpenAI's."""

    error: ErrorDetail
