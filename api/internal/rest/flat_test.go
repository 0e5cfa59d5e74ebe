package rest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type flatBody struct {
	A string `json:"a"`
	B string `json:"b"`
}

func readFlat(body string) (v flatBody, ok bool) {
	seenA, seenB := 0, 0
	ok = flat([]byte(body), func(name []byte, value string) bool {
		switch string(name) {
		case "a":
			v.A = value
			seenA++
		case "b":
			v.B = value
			seenB++
		default:
			return false
		}
		return seenA < 2 && seenB < 2
	})
	return v, ok
}

func TestFlat(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1000)
	for in, want := range map[string]flatBody{
		`{"a":"1","b":"2"}`:                           {"1", "2"},
		" {\t\"b\" :\r\n\"2\" } \n":                   {"", "2"},
		`{"a":"say \"hi\" \\ \/"}`:                    {`say "hi" \ /`, ""},
		`{"a":""}`:                                    {},
		`{"a":"` + long + `","b":"\"` + long + `\\"}`: {long, `"` + long + `\`},
	} {
		got, ok := readFlat(in)
		require.True(t, ok, in)
		require.Equal(t, want, got)
	}
	for _, in := range []string{
		``, `{}`, `[]`, `{"a":"1"`, `{"a":"1"}}`, `{"a":"1",}`, `{"a" "1"}`, `{"a":1}`, `{"a":null}`, `{"a":{}}`, `{"A":"1"}`, `{"c":"1"}`,
		`{"a":"1","a":"2"}`, `{"a":"\u0041"}`, `{"a":"\n"}`, "{\"a\":\"\n\"}", "{\"a\":\"\x00\"}", `{"a":"ž"}`, "{\"a\":\"\xff\"}",
		`{"\u0061":"1"}`, `{"a":"1"}x`, `{"a":"\`, `{"a":"`, `{"a`, `{`,
	} {
		_, ok := readFlat(in)
		require.False(t, ok, in)
	}
}

func TestFlatWantsThePlainMediaType(t *testing.T) {
	t.Parallel()
	for _, h := range []http.Header{
		{},
		{"Content-Type": {"text/plain"}},
		{"Content-Type": {"application/json", "application/json"}},
		{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}},
	} {
		r := &Request{http: &http.Request{Header: h}, body: []byte(`{"a":"1"}`)}
		require.False(t, r.Flat(func([]byte, string) bool { return true }))
	}
}

// What Flat takes, Decode takes, with the same result.
func FuzzFlat(f *testing.F) {
	for _, s := range []string{`{"a":"1","b":"2"}`, `{"a":"\"\\\/"}`, `{"a":"1","a":"1"}`, `{"a":"\u0000"}`, `{"A":"1"}`, `{"a":"ž"}`, `{ "b" : "" }`, `{"a":"1"}{`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		fast, ok := readFlat(body)
		if !ok {
			return
		}
		hr := httptest.NewRequest("POST", "/", strings.NewReader(body))
		hr.Header.Set("Content-Type", "application/json")
		slow, err := Decode[flatBody](&Request{http: hr, body: []byte(body)})
		require.NoError(t, err, "%q", body)
		require.Equal(t, slow, fast)
	})
}
