package operation

import (
	"fmt"
	"slices"
	"strings"
)

// pattern is a text of a template with placeholders ${name}. A dollar sign that
// does not begin a placeholder stands for itself. Substitution is one pass: a
// placeholder inside a parameter's value stays text (the reference resolves it
// again, and so lets one parameter read another).
type pattern struct{ parts []part }

// part is literal text, then perhaps a placeholder.
type part struct{ literal, name string }

const maxName = 64 // bytes of a parameter name

func parsePattern(s string) (pattern, error) {
	var p pattern
	for {
		literal, rest, found := strings.Cut(s, "${")
		if !found {
			p.parts = append(p.parts, part{literal: s})
			return p, nil
		}
		name, after, closed := strings.Cut(rest, "}")
		switch {
		case !closed:
			return pattern{}, fmt.Errorf("a placeholder is not closed")
		case !isName(name):
			return pattern{}, fmt.Errorf("%q is not the name of a parameter", name)
		}
		p.parts = append(p.parts, part{literal, name})
		s = after
	}
}

// isName is what a placeholder may name; a parameter with another name is kept
// but reaches no text.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}

// fill puts the parameters in and lists those that were not given. The reference
// leaves their placeholders standing; then a person is asked to approve
// "A${amount}EUR", so callers here refuse.
func (p pattern) fill(params map[string]string, escape func(string) string) (text string, missing []string) {
	var b strings.Builder
	for _, part := range p.parts {
		b.WriteString(part.literal)
		if part.name == "" {
			continue
		}
		value, ok := params[part.name]
		if !ok && !slices.Contains(missing, part.name) {
			missing = append(missing, part.name)
		}
		b.WriteString(escape(value))
	}
	return b.String(), missing
}

func verbatim(s string) string { return s }

// parseDataPattern reads the data of a template. The header must stand there as
// it is: no parameter may decide how the others are read.
func parseDataPattern(s string) (pattern, error) {
	p, err := parsePattern(s)
	if err != nil {
		return pattern{}, err
	}
	header, _, more := strings.Cut(p.parts[0].literal, "*")
	if !more && len(p.parts) > 1 {
		return pattern{}, fmt.Errorf("the header must not have a placeholder")
	}
	if _, err := parseHeader(header); err != nil {
		return pattern{}, fmt.Errorf("the header must be a capital letter and a number of 0 to 99")
	}
	for _, part := range p.parts {
		if strings.ContainsFunc(part.literal, isControl) {
			return pattern{}, fmt.Errorf("control characters are not allowed")
		}
	}
	return p, nil
}
