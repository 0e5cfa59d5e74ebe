package rest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/signet-hsm/signet/fault"
)

// read takes the body in, bounded by limit.
func (r *Request) read() error {
	var body []byte
	var err error
	if n := r.http.ContentLength; n >= 0 { // known, and within the bound
		body = make([]byte, n)
		_, err = io.ReadFull(r.http.Body, body)
	} else {
		body, err = io.ReadAll(r.http.Body)
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return ErrTooLarge
	case err != nil:
		return fmt.Errorf("%w: %w", ErrBodyRead, err)
	}
	r.body = body
	return nil
}

// Decode reads the body, a JSON object, into a T. Null members are refused except
// the top-level ones named nullable; "extras.*" names whatever stands in extras.
// Errors: ErrRequest with violations, ErrMediaType.
func Decode[T any](r *Request, nullable ...string) (T, error) {
	var v T
	if len(r.body) == 0 {
		return v, violation("body", "must not be empty")
	}
	return v, r.decode(&v, nullable)
}

// DecodeOptional is Decode for bodies that may be left out: then the result is
// the zero T.
func DecodeOptional[T any](r *Request, nullable ...string) (T, error) {
	var v T
	if len(r.body) == 0 {
		return v, nil
	}
	return v, r.decode(&v, nullable)
}

// DecodeKnown is Decode for clients that can not be updated with us, the apps on
// phones: members that T does not have are ignored, and a null is as good as
// nothing. All else is as strict.
func DecodeKnown[T any](r *Request) (T, error) {
	var v T
	if !isJSON(r.http.Header) {
		return v, ErrMediaType
	}
	if _, err := scan(r.body); err != nil {
		return v, err
	}
	if err := json.Unmarshal(r.body, &v); err != nil {
		return v, decodeError(err)
	}
	return v, checkTokens(r.body, false, nil)
}

func (r *Request) decode(v any, nullable []string) error {
	if !isJSON(r.http.Header) {
		return ErrMediaType
	}
	nulls, err := scan(r.body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(r.body, v, json.RejectUnknownMembers(true)); err != nil {
		return decodeError(err)
	}
	return checkTokens(r.body, nulls, nullable)
}

// isJSON wants exactly one Content-Type, JSON in UTF-8, and no encoding: a
// compressed body could grow past every limit.
func isJSON(h http.Header) bool {
	if plainJSON(h) {
		return true
	}
	if h.Get("Content-Encoding") != "" || len(h.Values("Content-Type")) != 1 {
		return false
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset, given := params["charset"]
	return err == nil && kind == "application/json" && (!given || strings.EqualFold(charset, "utf-8"))
}

// plainJSON is the usual form of what isJSON wants.
func plainJSON(h http.Header) bool {
	kind := h["Content-Type"]
	return len(kind) == 1 && kind[0] == "application/json" && len(h["Content-Encoding"]) == 0
}

// scan looks at the shape of a body before it is decoded: it must be an object,
// not too deep and without too many members on any level. It does not judge
// syntax; json.Unmarshal does. nulls reports whether a null stands anywhere.
func scan(b []byte) (nulls bool, err error) {
	if first := bytes.TrimLeft(b, " \t\r\n"); len(first) == 0 || first[0] != '{' {
		return false, violation("body", "must be a JSON object")
	}
	var commas [maxDepth + 1]int
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			if depth++; depth > maxDepth {
				return false, violation("body", fmt.Sprintf("must not be nested deeper than %d", maxDepth))
			}
			commas[depth] = 0
		case '}', ']':
			depth = max(depth-1, 0)
		case ',':
			if commas[depth]++; commas[depth] >= maxItems {
				return false, violation("body", fmt.Sprintf("must not have more than %d members in one object or array", maxItems))
			}
		case 'n':
			nulls = true
		}
	}
	return nulls, nil
}

// checkTokens looks for what a T can not refuse: a null where none may be, and
// the character NUL, which no text that is kept can have. The body is known to be
// valid, so in UTF-8 as well; nulls says that it may have some.
func checkTokens(b []byte, nulls bool, nullable []string) error {
	if !nulls && !bytes.Contains(b, []byte(`\u0000`)) {
		return nil
	}
	dec := jsontext.NewDecoder(bytes.NewReader(b))
	for {
		tok, err := dec.ReadToken()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return decodeError(err)
		}
		switch tok.Kind() {
		case 'n':
			if name := field(dec.StackPointer()); nulls && !slices.ContainsFunc(nullable, func(n string) bool { return names(n, name) }) {
				return violation(name, "must not be null")
			}
		case '"':
			if !storable(tok.String()) {
				return violation(field(dec.StackPointer()), hintText)
			}
		}
	}
}

// names reports whether a nullable is the member.
func names(nullable, member string) bool {
	if inside, ok := strings.CutSuffix(nullable, "*"); ok {
		return strings.HasPrefix(member, inside)
	}
	return nullable == member
}

// decodeError says where and what, never the value: it may be a secret.
func decodeError(err error) error {
	var syntax *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		if errors.As(err, &syntax) {
			return violation(field(syntax.JSONPointer), "must be given once")
		}
	case errors.As(err, &semantic):
		if errors.Is(err, json.ErrUnknownName) {
			return violation(field(semantic.JSONPointer), "is not a field of this request")
		}
		return violation(field(semantic.JSONPointer), "has the wrong type")
	case errors.As(err, &syntax):
		return violation("body", fmt.Sprintf("must be valid JSON (byte %d)", syntax.ByteOffset))
	}
	return violation("body", "must be valid JSON")
}

// field writes a JSON pointer the way clients name fields: flags[0], texts.en.
func field(p jsontext.Pointer) string {
	var out strings.Builder
	for tok := range p.Tokens() {
		switch {
		case isIndex(tok):
			out.WriteString("[" + tok + "]")
		case out.Len() > 0:
			out.WriteString("." + tok)
		default:
			out.WriteString(tok)
		}
		if out.Len() > maxFieldName {
			return strings.ToValidUTF8(out.String()[:maxFieldName], "") + "..."
		}
	}
	if out.Len() == 0 {
		return "body"
	}
	return out.String()
}

func isIndex(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func violation(name, hint string) error {
	return ErrRequest.With(fault.Violation{Field: name, Hint: hint})
}
