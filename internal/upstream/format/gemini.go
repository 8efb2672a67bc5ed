package format

import (
	"bytes"
	"cmp"
	"mime"
	"net/url"
	"path"
	"strings"

	"github.com/go-faster/jx"

	"github.com/websopy/relay/internal/chat"
)

// Gemini is the GenerateContent format of the Gemini API and of Vertex AI.
// https://ai.google.dev/api/generate-content
type Gemini struct{}

// Encode implements Format.
func (Gemini) Encode(e *jx.Encoder, q *Query) error {
	system, err := q.leadingText()
	if err != nil {
		return err
	}
	turns, err := q.turns()
	if err != nil {
		return err
	}
	e.ObjStart()
	if system != "" {
		e.FieldStart("systemInstruction")
		e.ObjStart()
		e.FieldStart("parts")
		e.ArrStart()
		encodeGeminiText(e, system, "")
		e.ArrEnd()
		e.ObjEnd()
	}
	e.FieldStart("contents")
	e.ArrStart()
	if err := encodeTurns(e, turns, "model", "parts",
		func(i int) error { return encodeGeminiMessage(e, q, i) }); err != nil {
		return err
	}
	e.ArrEnd()
	encodeGeminiTools(e, q.Request)
	if err := encodeGenerationConfig(e, q); err != nil {
		return err
	}
	e.ObjEnd()
	return nil
}

// encodeGeminiText writes text with its signature, if it has one. Signed text can be empty.
func encodeGeminiText(e *jx.Encoder, text, seal string) {
	e.ObjStart()
	e.Field("text", func(e *jx.Encoder) { e.Str(text) })
	optionalString(e, "thoughtSignature", seal)
	e.ObjEnd()
}

func encodeGeminiMessage(e *jx.Encoder, q *Query, i int) error {
	m := &q.Messages[i]
	switch m.Role {
	case chat.RoleTool:
		return encodeFunctionResponse(e, q, i)
	case chat.RoleAssistant:
		if s := q.stateOf(m); s != nil {
			return encodeGeminiState(e, q, i, s)
		}
	}
	for j, p := range partsOf(m) {
		if p.Type != chat.PartText {
			if err := encodeGeminiImage(e, i, j, p); err != nil {
				return err
			}
			continue
		}
		if m.Role == chat.RoleSystem {
			p.Text = asUser(p.Text)
		}
		encodeGeminiText(e, p.Text, "")
	}
	for j := range m.ToolCalls {
		if err := encodeGeminiCall(e, q, i, j, ""); err != nil {
			return err
		}
	}
	return nil
}

// encodeGeminiState writes an answer as it came: each signature on its own part, and none of them merged.
func encodeGeminiState(e *jx.Encoder, q *Query, i int, s *parsedState) error {
	m := &q.Messages[i]
	rest := contentOf(m)
	for _, it := range s.items {
		switch it.kind {
		case itemThinking:
			if it.seal != "" {
				e.ObjStart()
				e.Field("text", func(e *jx.Encoder) { e.Str(it.text) })
				e.Field("thought", func(e *jx.Encoder) { e.Bool(true) })
				optionalString(e, "thoughtSignature", it.seal)
				e.ObjEnd()
			}
		case itemText:
			if it.n > 0 || it.seal != "" {
				encodeGeminiText(e, rest[:it.n], it.seal)
			}
			rest = rest[it.n:]
		case itemCall:
			if err := encodeGeminiCall(e, q, i, it.n, it.seal); err != nil {
				return err
			}
		}
	}
	return nil
}

func encodeGeminiImage(e *jx.Encoder, i, j int, p chat.Part) error {
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
		e.ObjEnd()
	} else {
		encodeInlineData(e, img)
	}
	e.ObjEnd()
	return nil
}

func encodeInlineData(e *jx.Encoder, img image) {
	e.FieldStart("inlineData")
	e.ObjStart()
	optionalString(e, "mimeType", img.mediaType)
	optionalString(e, "data", img.base64)
	e.ObjEnd()
}

// encodeGeminiCall writes a call. Models since Gemini 3 refuse the first call of an answer without a signature.
func encodeGeminiCall(e *jx.Encoder, q *Query, i, j int, seal string) error {
	c := &q.Messages[i].ToolCalls[j]
	args, err := arguments(i, j, c)
	if err != nil {
		return err
	}
	if seal == "" && j == 0 && (q.thinks != onBudget || q.fillSignature) {
		seal = noThoughtSignature
	}
	e.ObjStart()
	optionalString(e, "thoughtSignature", seal)
	e.FieldStart("functionCall")
	e.ObjStart()
	if !q.noIDs && !q.noCallIDs && q.adds(addIDs) {
		optionalString(e, "id", c.ID)
	}
	optionalString(e, "name", c.Name)
	e.FieldStart("args")
	e.Raw(args)
	e.ObjEnd()
	e.ObjEnd()
	return nil
}

// noThoughtSignature is "skip_thought_signature_validator" in base64, which Google documents for calls
// whose signature is not at hand: a client that does not keep the state, another model's call.
// https://ai.google.dev/gemini-api/docs/thought-signatures
const noThoughtSignature = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="

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
func encodeFunctionResponse(e *jx.Encoder, q *Query, i int) error {
	text, images, err := resultOf(q, i)
	if err != nil {
		return err
	}
	name, err := q.calledName(i)
	if err != nil {
		return err
	}
	e.ObjStart()
	e.FieldStart("functionResponse")
	e.ObjStart()
	if !q.noIDs && !q.noCallIDs && q.adds(addIDs) {
		optionalString(e, "id", q.Messages[i].ToolCallID)
	}
	optionalString(e, "name", name)
	e.FieldStart("response")
	if object := bytes.TrimSpace([]byte(text)); len(object) > 0 && object[0] == '{' && jx.Valid(object) {
		e.Raw(object)
	} else {
		e.Obj(func(e *jx.Encoder) { e.Field("output", func(e *jx.Encoder) { e.Str(text) }) })
	}
	if len(images) > 0 {
		e.FieldStart("parts")
		e.ArrStart()
		for _, img := range images {
			e.Obj(func(e *jx.Encoder) { encodeInlineData(e, img) })
		}
		e.ArrEnd()
	}
	e.ObjEnd()
	e.ObjEnd()
	return nil
}

// resultOf gives the text and the images of a tool's result.
func resultOf(q *Query, i int) (string, []image, error) {
	m := &q.Messages[i]
	if !q.images {
		text, err := textOf(i, m)
		return text, nil, err
	}
	var texts []string
	var images []image
	for j, p := range partsOf(m) {
		if p.Type == chat.PartText {
			texts = append(texts, p.Text)
			continue
		}
		img, err := imageOf(i, j, p)
		if err != nil {
			return "", nil, err
		}
		if img.url != "" {
			return "", nil, refuse(imageField(i, j), "this provider takes no URLs in results; use a data URL")
		}
		images = append(images, img)
	}
	return strings.Join(texts, "\n"), images, nil
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
	modes := map[chat.ToolChoiceMode]string{chat.ChooseAuto: "AUTO", chat.ChooseNone: "NONE",
		chat.ChooseRequired: "ANY", chat.ChooseFunction: "ANY"}
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

func encodeGenerationConfig(e *jx.Encoder, q *Query) error {
	req := q.Request
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
	if err := encodeThinkingConfig(e, q); err != nil {
		return err
	}
	e.ObjEnd()
	return nil
}

// maxGeminiBudget is the most that every model with a budget takes, in tokens.
const maxGeminiBudget = 24576

// encodeThinkingConfig writes the effort in the model's terms, and asks for thoughts, which are all that shows of
// minutes of thinking. Levels can't be none.
func encodeThinkingConfig(e *jx.Encoder, q *Query) error {
	budget, known, err := thinkingBudget(q.ReasoningEffort)
	if err != nil {
		return err
	}
	shown := (q.shows && !known || budget > 0) && q.adds(addThoughts)
	if !known && !shown {
		return nil
	}
	e.FieldStart("thinkingConfig")
	e.ObjStart()
	switch {
	case !known:
	case q.thinks == onBudget:
		e.Field("thinkingBudget", func(e *jx.Encoder) { e.Int(max(q.least, min(budget, maxGeminiBudget))) })
	default:
		levels := q.modelRule
		levels.efforts = cmp.Or(levels.efforts, "low medium high")
		optionalString(e, "thinkingLevel", strings.ToUpper(levels.effort(q.ReasoningEffort)))
	}
	if shown {
		e.Field("includeThoughts", func(e *jx.Encoder) { e.Bool(true) })
	}
	e.ObjEnd()
	return nil
}
