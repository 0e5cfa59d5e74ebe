package lint

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Severity says how sure a rule is.
type Severity uint8

// A warning is a SHOULD, an error a MUST.
const (
	Warning Severity = iota + 1
	Error
)

func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// Finding is one broken rule. Detail may repeat content of what was linted.
type Finding struct {
	Rule     string // name of zlint's rule, or ours, which begin with signet_
	Source   string // RFC5280, Community, ...; signet for ours
	Severity Severity
	Detail   string
}

func (f Finding) String() string {
	s := fmt.Sprintf("%s %s (%s)", f.Severity, f.Rule, f.Source)
	if f.Detail != "" {
		s += ": " + f.Detail
	}
	return s
}

// Err joins findings to one error; nil when there are none.
func Err(findings []Finding) error {
	if len(findings) == 0 {
		return nil
	}
	text := make([]string, len(findings))
	for i, f := range findings {
		text[i] = f.String()
	}
	return errors.New(strings.Join(text, "; "))
}

// ours collects findings of our own rules.
type ours struct{ found []Finding }

func (o *ours) expect(ok bool, rule, format string, a ...any) {
	if !ok {
		o.found = append(o.found, Finding{Rule: "signet_" + rule, Source: "signet", Severity: Error, Detail: fmt.Sprintf(format, a...)})
	}
}

func sorted(f []Finding) []Finding {
	slices.SortFunc(f, func(a, b Finding) int { return cmp.Compare(a.Rule, b.Rule) })
	return f
}
