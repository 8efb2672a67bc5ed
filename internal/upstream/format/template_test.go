package format

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
)

func TestATemplateMatchesWhatDiffersInOneString(t *testing.T) {
	var tpl template
	_, ok := tpl.match(nil)
	require.False(t, ok, "nothing learnt, nothing matched")

	tpl.learn([]byte(`{"id":1,"content": "a \" quote","x":null}`), `"content":`)
	for in, want := range map[string]string{
		`{"id":1,"content": "b","x":null}`:                  "b",
		`{"id":1,"content": "","x":null}`:                   "",
		`{"id":1,"content": "\"\\\/\n\r\t你","x":null}`:      "\"\\/\n\r\t你",
		`{"id":1,"content": "\\","x":null}`:                 `\`,
		`{"id":1,"content": "\u00e9\ud83d\ude00","x":null}`: "é😀",
		`{"id":1,"content": "b","x":null      }`:            "b",
		`{"id":1,"content": "{\"content\": 1}","x":null}`:   `{"content": 1}`,
	} {
		got, ok := tpl.match([]byte(in))
		require.True(t, ok, in)
		require.Equal(t, want, string(got))
	}
	for _, in := range []string{
		`{"id":2,"content": "b","x":null}`,
		`{"id":1,"content": "b","x":1}`,
		`{"id":1,"content": "b","y":2,"content": "c","x":null}`,
		`{"id":1,"content": "\",x":null}`,
		`{"id":1,"content": "\u00e","x":null}`,
		`{"id":1,"content": "\x","x":null}`,
		"{\"id\":1,\"content\": \"a\nb\",\"x\":null}",
		`{"id":1,"content": null,"x":null}`,
		`{"id":1,"content":`,
	} {
		_, ok := tpl.match([]byte(in))
		require.False(t, ok, in)
	}

	for _, in := range []string{`{"content": "a","message":{"content": "a"}}`, `{"content": null}`, `{"content":`,
		`{"content":"a`, `{}`} {
		tpl.learn([]byte(in), `"content":`)
		_, ok := tpl.match([]byte(in))
		require.False(t, ok, in)
	}
}

// FuzzTemplate: what a template reads and an Answer passes on, a JSON decoder reads as well. Half of a surrogate pair
// at an end of the string is three bytes for the Answer, which puts it together with its other half or replaces it.
func FuzzTemplate(f *testing.F) {
	const before, after = `{"id":1,"content":`, `,"x":null}`
	f.Add(`"a"`)
	f.Add(`"\\\""`)
	f.Add(`"","content":"b"`)
	f.Add(`"\uD800"`)
	f.Add(`"\uDC00a\uD800"`)
	f.Fuzz(func(t *testing.T, value string) {
		var tpl template
		tpl.learn([]byte(before+`"learnt"`+after), `"content":`)
		got, ok := tpl.match([]byte(before + value + after))
		if !ok {
			return
		}
		var want struct{ Content string }
		require.NoError(t, json.Unmarshal([]byte(before+value+after), &want))
		text := string(got)
		switch {
		case utf8.ValidString(value):
			text = passedOn(got)
		case surrogateAt(got) != 0 || surrogateAt(got[max(0, len(got)-3):]) != 0:
			return // bytes that are no UTF-8 may look like such a half
		}
		require.JSONEq(t, mustMarshal(t, want.Content), mustMarshal(t, text))
	})
}

// passedOn is what an Answer makes of the only text of an answer.
func passedOn(text []byte) string {
	var all []byte
	out := Answer{Yield: func(c chat.Chunk, _ error) bool {
		all = append(all, c.Text...)
		return true
	}}
	out.Text(chat.Content, text)
	out.flushHalf()
	return string(all)
}

func mustMarshal(t *testing.T, s string) string {
	b, err := json.Marshal(s)
	require.NoError(t, err)
	return string(b)
}
