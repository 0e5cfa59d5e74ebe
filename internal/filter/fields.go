package filter

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Kind is what a property's values are.
type Kind uint8

const (
	Text Kind = iota
	Number
	Time
)

// Field is one property.
type Field struct {
	// Column is the SQL expression of its value, trusted text of the list's owner:
	// of type text, a number type or timestamptz, as Kind says.
	Column string
	Kind   Kind
}

// Fields are the properties of one list.
type Fields struct {
	Names map[string]Field // by name; letters and digits, a letter first
	Bare  string           // characters besides a-z A-Z 0-9 - _ that need no quotes: some of "%."
}

// known lists the names for an error.
func (f Fields) known() string {
	return strings.Join(slices.Sorted(maps.Keys(f.Names)), ", ")
}

// bare reports whether c may stand in a value without quotes.
func (f Fields) bare(c rune) bool {
	return isWord(c) || c == '-' || strings.ContainsRune(f.Bare, c)
}

func isLetter(c rune) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// isWord accepts what a name is made of.
func isWord(c rune) bool { return isLetter(c) || c >= '0' && c <= '9' || c == '_' }

// Value is a row's value of a property, for Match; the zero Value is null.
type Value struct {
	kind Kind
	set  bool
	text string
	num  int64
	at   time.Time
}

// Null is no value.
var Null = Value{}

// String is the value of a Text property.
func String(s string) Value { return Value{kind: Text, set: true, text: s} }

// Int is the value of a Number property.
func Int(n int64) Value { return Value{kind: Number, set: true, num: n} }

// Instant is the value of a Time property, to the microsecond as PostgreSQL has it.
func Instant(t time.Time) Value {
	return Value{kind: Time, set: true, at: t.Truncate(time.Microsecond)}
}
