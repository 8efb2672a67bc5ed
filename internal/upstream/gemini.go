package upstream

import (
	"bytes"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// gemini is the GenerateContent format of the Gemini API and of Vertex AI.
// https://ai.google.dev/api/generate-content
type gemini struct{ Options }

func (f *gemini) target(model string) string {
	return f.BaseURL + "/models/" + url.PathEscape(strings.TrimPrefix(model, "models/")) + ":streamGenerateContent?alt=sse"
}

func (f *gemini) setHeaders(h http.Header) { setKey(h, "X-Goog-Api-Key", f.APIKey) }

func (f *gemini) encode(e *jx.Encoder, model string, req *chat.Request) error {
	system, err := systemText(req.Messages)
	if err != nil {
		return err
	}
	e.ObjStart()
	if system != "" {
		e.FieldStart("systemInstruction")
		e.ObjStart()
		e.FieldStart("parts")
		e.ArrStart()
		encodeGeminiText(e, system)
		e.ArrEnd()
		e.ObjEnd()
	}
	e.FieldStart("contents")
	e.ArrStart()
	err = encodeTurns(e, req.Messages, "model", "parts", func(i int, m *chat.Message) error { return encodeGeminiParts(e, model, req.Messages, i) })
	if err != nil {
		return err
	}
	e.ArrEnd()
	encodeGeminiTools(e, req)
	if err := encodeGenerationConfig(e, model, req); err != nil {
		return err
	}
	e.ObjEnd()
	return nil
}

func encodeGeminiText(e *jx.Encoder, text string) {
	e.ObjStart()
	optionalString(e, "text", text)
	e.ObjEnd()
}

func encodeGeminiParts(e *jx.Encoder, model string, messages []chat.Message, i int) error {
	m := &messages[i]
	if m.Role == chat.RoleTool {
		return encodeFunctionResponse(e, messages, i)
	}
	for j, p := range partsOf(m) {
		if p.Type == chat.PartText {
			encodeGeminiText(e, p.Text)
			continue
		}
		img, err := imageOf(i, j, p)
		if err != nil {
			return err
		}
		e.ObjStart()
		if img.url != "" {
			e.FieldStart("fileData")
			e.ObjStart()
			optionalString(e, "mimeType", mediaTypeByName(img.url))
			optionalString(e, "fileUri", img.url)
		} else {
			e.FieldStart("inlineData")
			e.ObjStart()
			optionalString(e, "mimeType", img.mediaType)
			optionalString(e, "data", img.base64)
		}
		e.ObjEnd()
		e.ObjEnd()
	}
	for j := range m.ToolCalls {
		c := &m.ToolCalls[j]
		args, err := arguments(i, j, c)
		if err != nil {
			return err
		}
		e.ObjStart()
		if j == 0 && !geminiWithBudget(model) {
			optionalString(e, "thoughtSignature", noThoughtSignature)
		}
		e.FieldStart("functionCall")
		e.ObjStart()
		optionalString(e, "id", c.ID)
		optionalString(e, "name", c.Name)
		e.FieldStart("args")
		e.Raw(args)
		e.ObjEnd()
		e.ObjEnd()
	}
	return nil
}

// noThoughtSignature is "skip_thought_signature_validator" in base64, which Google documents for calls
// whose signature is not at hand: the contract does not carry them.
// https://ai.google.dev/gemini-api/docs/thought-signatures
const noThoughtSignature = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="

// geminiWithBudget tells models before Gemini 3 from those since: the later ones refuse calls without a
// signature, and think on levels instead of a budget.
func geminiWithBudget(model string) bool {
	return strings.Contains(model, "gemini-1") || strings.Contains(model, "gemini-2")
}

// mediaTypeByName guesses a media type, which Vertex wants to be told, by the name's extension.
func mediaTypeByName(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return mime.TypeByExtension(strings.ToLower(path.Ext(u.Path)))
}

// encodeFunctionResponse writes a tool result. It must be an object, under whose "output" the model
// looks for one that is not.
func encodeFunctionResponse(e *jx.Encoder, messages []chat.Message, i int) error {
	text, err := textOf(i, &messages[i])
	if err != nil {
		return err
	}
	name, err := calledName(messages, i)
	if err != nil {
		return err
	}
	e.ObjStart()
	e.FieldStart("functionResponse")
	e.ObjStart()
	optionalString(e, "id", messages[i].ToolCallID)
	optionalString(e, "name", name)
	e.FieldStart("response")
	if object := bytes.TrimSpace([]byte(text)); len(object) > 0 && object[0] == '{' && jx.Valid(object) {
		e.Raw(object)
	} else {
		e.Obj(func(e *jx.Encoder) { e.Field("output", func(e *jx.Encoder) { e.Str(text) }) })
	}
	e.ObjEnd()
	e.ObjEnd()
	return nil
}

func encodeGeminiTools(e *jx.Encoder, req *chat.Request) {
	if len(req.Tools) == 0 {
		return
	}
	e.FieldStart("tools")
	e.ArrStart()
	e.ObjStart()
	e.FieldStart("functionDeclarations")
	e.ArrStart()
	for i := range req.Tools {
		t := &req.Tools[i]
		e.ObjStart()
		optionalString(e, "name", t.Name)
		optionalString(e, "description", t.Description)
		if t.Parameters != nil {
			e.FieldStart("parametersJsonSchema") // parameters is OpenAPI's subset, and refuses the rest
			e.Raw(t.Parameters)
		}
		e.ObjEnd()
	}
	e.ArrEnd()
	e.ObjEnd()
	e.ArrEnd()
	modes := map[chat.ToolChoiceMode]string{chat.ChooseAuto: "AUTO", chat.ChooseNone: "NONE", chat.ChooseRequired: "ANY", chat.ChooseFunction: "ANY"}
	if mode := modes[req.ToolChoice.Mode]; mode != "" {
		e.FieldStart("toolConfig")
		e.ObjStart()
		e.FieldStart("functionCallingConfig")
		e.ObjStart()
		optionalString(e, "mode", mode)
		if req.ToolChoice.Name != "" {
			e.FieldStart("allowedFunctionNames")
			encodeStrings(e, []string{req.ToolChoice.Name})
		}
		e.ObjEnd()
		e.ObjEnd()
	}
}

func encodeGenerationConfig(e *jx.Encoder, model string, req *chat.Request) error {
	format, err := responseFormatOf(req)
	if err != nil {
		return err
	}
	e.FieldStart("generationConfig")
	e.ObjStart()
	optionalNumber(e, "temperature", req.Temperature)
	optionalNumber(e, "topP", req.TopP)
	optionalNumber(e, "maxOutputTokens", req.MaxTokens)
	if fits(req.Seed, 32) {
		optionalNumber(e, "seed", req.Seed)
	}
	if len(req.Stop) > 0 {
		e.FieldStart("stopSequences")
		encodeStrings(e, req.Stop)
	}
	if strings.HasPrefix(format.Type, "json") {
		optionalString(e, "responseMimeType", "application/json")
	}
	if format.Type == "json_schema" {
		e.FieldStart("responseJsonSchema")
		e.Raw(format.JSONSchema.Schema)
	}
	if err := encodeThinkingConfig(e, model, req.ReasoningEffort); err != nil {
		return err
	}
	e.ObjEnd()
	return nil
}

// maxGeminiBudget is the most that every model with a budget takes, in tokens.
const maxGeminiBudget = 24576

// encodeThinkingConfig writes the effort in the model's terms. Levels can't be none, and only the Pro
// models lack the lowest.
func encodeThinkingConfig(e *jx.Encoder, model, effort string) error {
	budget, known, err := thinkingBudget(effort)
	if err != nil || !known {
		return err
	}
	e.FieldStart("thinkingConfig")
	e.ObjStart()
	switch {
	case geminiWithBudget(model):
		e.Field("thinkingBudget", func(e *jx.Encoder) { e.Int(min(budget, maxGeminiBudget)) })
	case budget > thinkingBudgets["medium"]:
		optionalString(e, "thinkingLevel", "HIGH")
	case budget > thinkingBudgets["low"]:
		optionalString(e, "thinkingLevel", "MEDIUM")
	case budget > thinkingBudgets["minimal"] || strings.Contains(model, "pro"):
		optionalString(e, "thinkingLevel", "LOW")
	default:
		optionalString(e, "thinkingLevel", "MINIMAL")
	}
	if budget > 0 {
		e.Field("includeThoughts", func(e *jx.Encoder) { e.Bool(true) })
	}
	e.ObjEnd()
	return nil
}
