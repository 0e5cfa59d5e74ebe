package grpc

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// storable refuses the character NUL in any text of a request: PostgreSQL stores
// none, and its refusal would look like an outage that a caller can make at will.
// (gRPC itself has refused what is no UTF-8.)
func storable(req any) error {
	m, ok := req.(proto.Message)
	if !ok {
		return nil
	}
	if field := withNUL(m.ProtoReflect()); field != "" {
		return bad(field, "must not have the character NUL")
	}
	return nil
}

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
