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

	"github.com/signet-hsm/signet/fault"
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

// Whatever the bytes: no panic, and a refusal names a field and never more than a
// name of it.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"method":"POST","uriId":"/x","authHeader":"y"}`, `{"queryParams":{"a":"b"},"requestBody":null}`,
		`{"method":null}`, `{"Method":1}`, `{"a":1,"a":2}`, "{\"a\xff\":1}", `{"queryParams":{"a":1}}`, `{"queryParams":{"":{"":[]}}}`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		hr := httptest.NewRequest(http.MethodPost, "/", nil)
		hr.Header.Set("Content-Type", "application/json")
		_, err := Decode[checkBody](&Request{http: hr, body: b}, "requestBody", "queryParams")
		if err == nil {
			require.True(t, jsontext.Value(b).IsValid())
			return
		}
		require.ErrorIs(t, err, ErrRequest)
		v := fault.Of(err).Violations
		require.Len(t, v, 1)
		require.NotEmpty(t, v[0].Field)
		require.LessOrEqual(t, len(v[0].Field), maxFieldName+3)
		require.Nil(t, v[0].Value)
	})
}

func FuzzAuthorization(f *testing.F) {
	for _, s := range []string{"Bearer abc", "Basic dTpw", "basic dTpw", "Basic  dTpw=", "Basic", "", "Basic dTpw\n", "Bearer ", "Basic OjpwOg=="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h := http.Header{"Authorization": {s}}
		token, bearer := AuthorizationOf(h).Bearer()
		user, password, basic := AuthorizationOf(h).Basic()
		require.False(t, bearer && basic)
		require.True(t, bearer || token == "")
		if basic {
			require.NotContains(t, user, ":")
			again := httptest.NewRequest(http.MethodGet, "/", nil)
			again.SetBasicAuth(user, password)
			u, p, ok := AuthorizationOf(again.Header).Basic()
			require.True(t, ok && u == user && p == password)
		}
	})
}

func TestNullsInFreeData(t *testing.T) {
	t.Parallel()
	type free struct {
		Extras map[string]any `json:"extras"`
		Text   *string        `json:"text"`
	}
	for body, want := range map[string]string{
		`{"extras":{"a":null,"b":[null,{"c":null}]}}`: "",
		`{"extras":null}`:                      "extras",
		`{"extras":{"a":null},"text":null}`:    "text",
		`{"extras.a":null}`:                    "extras.a",
		`{"extras":{"a":null},"extrasb":null}`: "extrasb",
	} {
		hr := httptest.NewRequest(http.MethodPost, "/", nil)
		hr.Header.Set("Content-Type", "application/json")
		_, err := Decode[free](&Request{http: hr, body: []byte(body)}, "extras.*")
		if want == "" {
			require.NoError(t, err, body)
			continue
		}
		require.ErrorIs(t, err, ErrRequest, body)
		require.Equal(t, want, fault.Of(err).Violations[0].Field, body)
	}
}
