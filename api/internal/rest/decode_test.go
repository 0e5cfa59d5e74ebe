package rest

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
)

// FuzzScan compares the scanner with a real decoder on everything that is valid
// JSON: same verdict on depth and size, and every null is seen.
func FuzzScan(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"a":[1,null,{"b":"\"}{[,"}]}`, `{"n":"null"}`, `{"a":"\\"}`, `{"\"":{}}`,
		`{"a":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`,
		`{"a":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`,
		`{"a":[` + strings.Repeat("0,", 999) + `0]}`, `{"a":[` + strings.Repeat("0,", 1000) + `0]}`,
		`[1]`, ` {"a":1} `, "{\"a\":\"\x00\"}", `}`, `{"`, `{"a":[0],"b":[1,2],"c":[[],[3,4]]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		gotNulls, err := scan(b) // must not panic on anything
		if !jsontext.Value(b).IsValid() {
			return
		}
		object, nulls, depth, most := measure(t, b)
		want := object && depth <= maxDepth && most <= maxItems
		require.Equal(t, want, err == nil, "depth %d members %d", depth, most)
		if want && nulls {
			require.True(t, gotNulls)
		}
	})
}

func measure(t *testing.T, b []byte) (object, nulls bool, depth int, most int64) {
	dec := jsontext.NewDecoder(bytes.NewReader(b))
	object = dec.PeekKind() == '{'
	for {
		tok, err := dec.ReadToken()
		if err == io.EOF {
			return
		}
		require.NoError(t, err)
		nulls = nulls || tok.Kind() == 'n'
		depth = max(depth, dec.StackDepth())
		if dec.StackDepth() > 0 {
			kind, n := dec.StackIndex(dec.StackDepth())
			if kind == '{' {
				n = (n + 1) / 2
			}
			most = max(most, n)
		}
	}
}

type checkBody struct {
	Method string             `json:"method"`
	URIID  string             `json:"uriId"`
	Header string             `json:"authHeader"`
	Body   *string            `json:"requestBody"`
	Params *map[string]string `json:"queryParams"`
}

func BenchmarkDecode(b *testing.B) {
	body := []byte(`{"method":"POST","uriId":"/login","authHeader":"` + strings.Repeat("x", 300) + `","requestBody":"e30="}`)
	hr := httptest.NewRequest(http.MethodPost, "/", nil)
	hr.Header.Set("Content-Type", "application/json")
	r := &Request{http: hr, body: body}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode[checkBody](r, "requestBody", "queryParams"); err != nil {
			b.Fatal(err)
		}
	}
}
