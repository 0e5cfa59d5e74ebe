package operation

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/signet-hsm/signet/fault"
)

// Bounds, in characters, elements and time.
const (
	MaxText       = 255  // names and ids
	MaxTitle      = 255  // with its parameters
	MaxMessage    = 1024 // with its parameters: a push carries both
	MaxParameters = 100
	MaxValue      = 1024 // of a parameter
	MaxLanguages  = 50
	MaxReason     = 32
	MaxList       = 100 // operations that a device is shown

	DefaultMaxFailures = 5
	DefaultLifetime    = 5 * time.Minute
	MaxLifetime        = 366 * 24 * time.Hour
	// MinRetention leaves an application tier the time to read the result.
	MinRetention    = 24 * time.Hour
	DefaultLanguage = "en"
)

const hintText = "must be 1 to 255 characters"

// text reports whether s is 1..max characters that PostgreSQL can store.
func text(s string, max int) bool { return s != "" && optionalText(s, max) }

func optionalText(s string, max int) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= max && !strings.ContainsRune(s, 0)
}

// printable reports whether s has no control character but line feeds.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return isControl(r) && r != '\n' })
}

func isLanguage(s string) bool {
	return len(s) == 2 && s[0] >= 'a' && s[0] <= 'z' && s[1] >= 'a' && s[1] <= 'z'
}

// refuse makes ErrInvalid of the violations, nil of none.
func refuse(v []fault.Violation) error {
	if len(v) == 0 {
		return nil
	}
	return ErrInvalid.With(v...)
}

func (t Template) validate() error {
	var v []fault.Violation
	bad := func(field string, value any, hint string) {
		v = append(v, fault.Violation{Field: field, Value: value, Hint: hint})
	}
	if !text(t.Name, MaxText) {
		bad("templateName", t.Name, hintText)
	}
	if !text(t.Type, MaxText) {
		bad("operationType", t.Type, hintText)
	}
	if !text(t.Data, MaxData) {
		bad("dataTemplate", nil, fmt.Sprintf("must be 1 to %d characters", MaxData))
	} else if _, err := parseDataPattern(t.Data); err != nil {
		bad("dataTemplate", t.Data, err.Error())
	}
	if len(t.Types) == 0 {
		bad("signatureType", nil, "must not be empty")
	}
	for _, f := range t.Types {
		if !f.Valid() {
			bad("signatureType", nil, "must be one of the six signature types")
		}
	}
	if t.MaxFailures < 1 {
		bad("maxFailureCount", t.MaxFailures, "must be at least 1")
	}
	if t.Lifetime < time.Second || t.Lifetime > MaxLifetime || t.Lifetime%time.Second != 0 {
		bad("expiration", int64(t.Lifetime/time.Second), fmt.Sprintf("must be 1 to %d seconds", MaxLifetime/time.Second))
	}
	if strings.Trim(t.RiskFlags, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || len(t.RiskFlags) > 26 {
		bad("riskFlags", t.RiskFlags, "must be capital letters")
	}
	return refuse(append(v, t.badTexts()...))
}

func (t Template) badTexts() (v []fault.Violation) {
	if len(t.Texts) > MaxLanguages {
		return []fault.Violation{{Field: "texts", Hint: fmt.Sprintf("must have at most %d languages", MaxLanguages)}}
	}
	for _, language := range slices.Sorted(maps.Keys(t.Texts)) {
		if !isLanguage(language) {
			v = append(v, fault.Violation{Field: "texts", Value: language, Hint: "a language must be two small letters"})
			continue
		}
		words := t.Texts[language]
		v = appendBadWords(v, "texts."+language+".title", words.Title, MaxTitle)
		v = appendBadWords(v, "texts."+language+".message", words.Message, MaxMessage)
		if len(words.Labels) > MaxFields {
			v = append(v, fault.Violation{Field: "texts." + language + ".labels", Hint: fmt.Sprintf("must have at most %d elements", MaxFields)})
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(words.Labels)) {
			if !text(id, MaxText) || !text(words.Labels[id], MaxText) || !printable(words.Labels[id]) {
				v = append(v, fault.Violation{Field: "texts." + language + ".labels", Hint: hintText})
			}
		}
	}
	return v
}

func appendBadWords(v []fault.Violation, field, words string, max int) []fault.Violation {
	if !text(words, max) || !printable(words) {
		return append(v, fault.Violation{Field: field, Hint: fmt.Sprintf("must be 1 to %d characters without control characters", max)})
	}
	if _, err := parsePattern(words); err != nil {
		return append(v, fault.Violation{Field: field, Value: words, Hint: err.Error()})
	}
	return v
}

func (p CreateParams) validate() error {
	var v []fault.Violation
	bad := func(field string, value any, hint string) {
		v = append(v, fault.Violation{Field: field, Value: value, Hint: hint})
	}
	if !text(p.UserID, MaxText) {
		bad("userId", p.UserID, hintText)
	}
	if !text(p.Template, MaxText) {
		bad("template", p.Template, hintText)
	}
	if !isLanguage(p.Language) {
		bad("language", p.Language, "must be two small letters")
	}
	if !optionalText(p.ExternalID, MaxText) {
		bad("externalId", nil, "must be at most 255 characters")
	}
	if !optionalText(p.Flag, MaxText) {
		bad("flag", nil, "must be at most 255 characters")
	}
	if len(p.Parameters) > MaxParameters {
		bad("parameters", nil, fmt.Sprintf("must have at most %d elements", MaxParameters))
		return refuse(v)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Parameters)) {
		if !text(name, MaxText) {
			bad("parameters", nil, "a name must be 1 to 255 characters")
		}
		if value := p.Parameters[name]; !optionalText(value, MaxValue) || !printable(value) {
			bad("parameters."+name, nil, fmt.Sprintf("must be at most %d characters, without control characters but line feeds", MaxValue))
		}
	}
	return refuse(v)
}
