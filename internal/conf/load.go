package conf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxSize is far above any real configuration; it bounds what a wrong path (a
// log, a device) makes us read.
const maxSize = 1 << 20

// Load reads the file into a T, usually a struct with yaml tags. It calls
// Validate of *T, when there is one, last. Errors are *Error where the file is at
// fault.
func Load[T any](path string) (T, error) {
	var v T
	f, err := os.Open(path)
	if err != nil {
		return v, fmt.Errorf("conf: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return v, fmt.Errorf("conf: %w", err)
	}
	return Parse[T](path, b)
}

// Parse is Load for content that is at hand; name stands in the errors.
func Parse[T any](name string, content []byte) (T, error) {
	var v, zero T
	if len(content) > maxSize {
		return zero, &Error{File: name, Message: fmt.Sprintf("larger than %d bytes", maxSize)}
	}
	if err := parse(content, &v); err != nil {
		return zero, positioned(name, content, err)
	}
	if c, ok := any(&v).(interface{ Validate() error }); ok {
		if err := c.Validate(); err != nil {
			return zero, fmt.Errorf("%s: %w", name, err)
		}
	}
	return v, nil
}

func parse(content []byte, v any) error {
	file, err := parser.ParseBytes(content, 0)
	if err != nil {
		return err
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil {
			bodies = append(bodies, doc.Body)
		}
	}
	switch {
	case len(bodies) == 0:
		return errors.New("the file is empty")
	case len(bodies) > 1:
		return &nodeError{bodies[1].GetToken(), "a second document: one file is one document"}
	}
	// A file is read by people before it is read by us: nothing in it may stand for
	// something elsewhere. It also leaves aliases no way to blow up.
	var plain plainOnly
	ast.Walk(&plain, bodies[0])
	if plain.err != nil {
		return plain.err
	}
	return yaml.NodeToValue(bodies[0], v, yaml.Strict())
}

// plainOnly finds the first node that is not plain data.
type plainOnly struct{ err error }

func (p *plainOnly) Visit(n ast.Node) ast.Visitor {
	if p.err != nil {
		return nil
	}
	refuse := func(message string) { p.err = &nodeError{n.GetToken(), message} }
	switch n.Type() {
	case ast.AnchorType, ast.AliasType, ast.MergeKeyType, ast.TagType:
		refuse("anchors, aliases, merge keys and tags are not allowed")
	case ast.FloatType, ast.InfinityType, ast.NanType:
		// The decoder would cut 84.5 to 84 for an integer field.
		refuse("fractions are not allowed: quote it if it is text")
	case ast.IntegerType:
		if !decimal.MatchString(n.GetToken().Value) { // 010 would be 8
			refuse("write numbers in plain decimal: quote it if it is text")
		}
	}
	return p
}

var decimal = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

// nodeError is what our own unmarshalers return, for positioned to place.
type nodeError struct {
	at      *token.Token
	message string
}

func (e *nodeError) Error() string { return e.message }

// Error is a fault in a file. Line and Column count from 1; both are 0 where the
// place is not known.
type Error struct {
	File         string
	Line, Column int
	Message      string
	excerpt      string // the line up to the refused word
}

// Error tells the place as compilers do, then shows it:
//
//	signet.yaml:3:1: unknown field "prot"
//	    prot: 8443
//	    ^
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Message)
	}
	s := fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
	if e.excerpt != "" {
		indent := strings.Map(func(r rune) rune {
			if r == '\t' {
				return r
			}
			return ' '
		}, string([]rune(e.excerpt)[:min(e.Column-1, len([]rune(e.excerpt)))]))
		s += "\n    " + e.excerpt + "\n    " + indent + "^"
	}
	return s
}

func positioned(name string, content []byte, err error) error {
	out := &Error{File: name}
	var at *token.Token
	var own *nodeError
	var theirs yaml.Error
	switch {
	case errors.As(err, &own):
		at, out.Message = own.at, own.message
	case errors.As(err, &theirs):
		at, out.Message = theirs.GetToken(), theirs.GetMessage()
	default:
		out.Message = err.Error()
	}
	if at == nil || at.Position == nil || at.Position.Line < 1 {
		return out
	}
	out.Line, out.Column = at.Position.Line, max(1, at.Position.Column)
	lines := bytes.Split(content, []byte("\n"))
	if out.Line <= len(lines) {
		line := []rune(strings.ToValidUTF8(strings.TrimRight(string(lines[out.Line-1]), "\r"), "?"))
		end := min(len(line), out.Column-1+len([]rune(at.Value)))
		out.excerpt = string(line[:end])
	}
	return out
}
