package grpc

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/signet-hsm/signet/api/signetv1"
)

// storable refuses the character NUL in any text of a request: PostgreSQL stores
// none, and its refusal would look like an outage that a caller can make at will.
// (gRPC itself has refused what is no UTF-8.)
//
// The hot requests are looked at without reflection. The items of a batch of checks
// are looked at one by one, since each has an outcome of its own.
func storable(req any) error {
	field := ""
	switch r := req.(type) {
	case *signetv1.VerifyTokenRequest:
		field = within("check", unclean(r.GetCheck()))
	case *signetv1.VerifySignatureRequest:
		field = within("check", unclean(r.GetCheck()))
	case *signetv1.VerifySignaturesRequest, *signetv1.VerifyTokensRequest, *signetv1.VerifyOfflineOtpsRequest:
	case proto.Message:
		field = withNUL(r.ProtoReflect())
	}
	if field != "" {
		return bad(field, hintNUL)
	}
	return nil
}

func within(outer, inner string) string {
	if inner == "" {
		return ""
	}
	return outer + "." + inner
}

// unclean is withNUL for a check.
func unclean(check proto.Message) string {
	has := func(s string) bool { return strings.IndexByte(s, 0) >= 0 }
	switch c := check.(type) {
	case *signetv1.TokenCheck:
		if has(c.GetAuthHeader()) {
			return "auth_header"
		}
		return ""
	case *signetv1.SignatureCheck:
		switch {
		case len(c.GetQueryParams()) > 0: // a map is for withNUL
		case has(c.GetMethod()):
			return "method"
		case has(c.GetUriId()):
			return "uri_id"
		case has(c.GetAuthHeader()):
			return "auth_header"
		default:
			return ""
		}
	}
	return withNUL(check.ProtoReflect())
}

const hintNUL = "must not have the character NUL"

// withNUL is the path of the first text with a NUL; "" when there is none.
func withNUL(m protoreflect.Message) (path string) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name, inner := string(f.Name()), ""
		found := false
		look := func(kind protoreflect.Kind, v protoreflect.Value) bool {
			switch kind {
			case protoreflect.StringKind:
				found = strings.ContainsRune(v.String(), 0)
			case protoreflect.MessageKind:
				inner = withNUL(v.Message())
				found = inner != ""
			}
			return !found
		}
		switch {
		case f.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				return look(f.MapKey().Kind(), k.Value()) && look(f.MapValue().Kind(), v)
			})
			inner = "" // keys are the caller's
		case f.IsList():
			for i := range v.List().Len() {
				if !look(f.Kind(), v.List().Get(i)) {
					break
				}
			}
		default:
			look(f.Kind(), v)
		}
		if found {
			path = name
			if inner != "" {
				path += "." + inner
			}
		}
		return !found
	})
	return path
}
