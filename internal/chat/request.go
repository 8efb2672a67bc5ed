package chat

// Request is one question, in no provider's terms. It is read-only once made: retries, fallbacks
// and hedges share it.
type Request struct {
	Model    string // empty: the upstream's default
	Messages []Message

	Temperature     Number
	TopP            Number
	MaxTokens       Number
	Seed            Number
	Stop            []string
	Tools           []ToolSpec
	ToolChoice      ToolChoice
	User            string
	ResponseFormat  []byte // a JSON object in OpenAI's terms, nil when absent
	ReasoningEffort string

	// MaxTokensName is what the caller calls MaxTokens where that is not max_tokens. A provider that is not
	// known for either name gets the same.
	MaxTokensName string

	// Extra holds the fields that are none of the above, in the caller's order and each name once. Which of
	// them a provider gets is decided by upstream.Fields.
	Extra []Field
}

// Number is a JSON number as the caller wrote it, empty when absent. It is kept as text because
// seeds exceed int64 and 0.7 should reach the provider as 0.7.
type Number string

// Field is one member of a JSON object; Value is valid JSON.
type Field struct {
	Name  string
	Value []byte
}

// Role is who speaks in a message.
type Role string

// The roles of the wire contract (docs/protocol.md, 2).
const (
	RoleSystem    Role = "system"
	RoleUser      Role = "user"
	RoleAssistant Role = "assistant"
	RoleTool      Role = "tool"
)

// Message is one turn of the conversation.
type Message struct {
	Role       Role
	Name       string
	Content    string // empty when Parts are used
	Parts      []Part
	ToolCalls  []ToolCall // assistant only
	ToolCallID string     // tool only: which call this is the result of

	CacheControl []byte // a JSON object: the prompt up to here is worth caching; nil when absent

	// What a provider wants back with its answers, of assistant messages only. State is a Completion's.
	// The others are what callers in OpenAI's style keep instead.
	State            string
	Reasoning        string // the answer's thinking
	ReasoningName    string // what the caller calls it, "reasoning_content" or "reasoning"
	ReasoningDetails []byte // OpenRouter's, a JSON array
	ExtraContent     []byte // Google's, a JSON object
}

// PartType is the kind of a content part.
type PartType string

// The part types of the wire contract, which are OpenAI's.
const (
	PartText  PartType = "text"
	PartImage PartType = "image_url"
)

// Part is one piece of a message's content.
type Part struct {
	Type     PartType
	Text     string // PartText
	ImageURL string // PartImage: https: or data: URL
	Detail   string // PartImage: "low", "high", "auto" or empty

	CacheControl []byte // as in a Message
}

// ToolSpec is a function that the model may call.
type ToolSpec struct {
	Name        string
	Description string
	Parameters  []byte // JSON Schema object, nil when the function takes none
	Strict      *bool

	CacheControl []byte // as in a Message
}

// ToolChoice says whether the model may, must or must not call a tool.
type ToolChoice struct {
	Mode ToolChoiceMode // empty when the caller did not say
	Name string         // ChooseFunction only
}

// ToolChoiceMode is the kind of a ToolChoice.
type ToolChoiceMode string

// The modes of the wire contract, which are OpenAI's.
const (
	ChooseAuto     ToolChoiceMode = "auto"
	ChooseNone     ToolChoiceMode = "none"
	ChooseRequired ToolChoiceMode = "required"
	ChooseFunction ToolChoiceMode = "function"
)
