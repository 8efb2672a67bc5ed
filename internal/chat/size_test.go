package chat_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/websopy/relay/internal/chat"
)

// fill gives every field of v, however deep, a value of its own memory. It returns what that takes beside v itself.
func fill(v reflect.Value) (size int64) {
	const long = 1000
	switch v.Kind() {
	case reflect.String:
		v.SetString(strings.Repeat("x", long))
		return long
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(make([]byte, long))
			return long
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		size = 2 * int64(v.Type().Elem().Size())
		for i := range v.Len() {
			size += fill(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			size += fill(v.Field(i))
		}
	}
	return size
}

// Whoever adds a field and forgets that it takes memory finds out here.
func TestTheSizeOfARequestHasAllOfIt(t *testing.T) {
	var r chat.Request
	size := fill(reflect.ValueOf(&r).Elem()) + int64(reflect.TypeFor[chat.Request]().Size())
	memory, text := r.Size()
	require.Equal(t, size, memory)
	require.Less(t, text, memory)
	require.Zero(t, text%1000)
}
