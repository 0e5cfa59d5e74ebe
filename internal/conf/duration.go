package conf

import (
	"fmt"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Duration is a time.Duration written as Go writes it: "160h", "1m30s", "250ms".
// A bare number is refused: it has no unit.
type Duration time.Duration

// Std returns d as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String returns d as it is written in a file.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes what UnmarshalYAML reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalYAML implements yaml.NodeUnmarshaler.
func (d *Duration) UnmarshalYAML(node ast.Node) error {
	text, ok := node.(*ast.StringNode)
	if !ok {
		return &nodeError{node.GetToken(), `want a duration such as "160h" or "1m30s"`}
	}
	v, err := time.ParseDuration(text.Value)
	if err != nil {
		return &nodeError{node.GetToken(), fmt.Sprintf("%q is no duration such as 160h or 1m30s", text.Value)}
	}
	*d = Duration(v)
	return nil
}
