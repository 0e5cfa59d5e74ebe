package filter

import (
	"strconv"
	"strings"
)

// SQL returns the filter as a condition for WHERE, in brackets where it needs
// them, and the arguments of its parameters. The first parameter is $argsFrom.
func (e Expr) SQL(argsFrom int) (string, []any) {
	if e.root == nil {
		return "true", nil
	}
	b := &compiler{next: argsFrom}
	e.root.sql(b)
	return b.text.String(), b.args
}

type compiler struct {
	text strings.Builder
	args []any
	next int
}

func (b *compiler) write(parts ...string) {
	for _, s := range parts {
		b.text.WriteString(s)
	}
}

// bind adds an argument and returns its parameter.
func (b *compiler) bind(arg any) string {
	b.args = append(b.args, arg)
	b.next++
	return "$" + strconv.Itoa(b.next-1)
}

func (g group) sql(b *compiler) {
	joiner := " and "
	if g.or {
		joiner = " or "
	}
	b.write("(")
	for i, n := range g.nodes {
		if i > 0 {
			b.write(joiner)
		}
		n.sql(b)
	}
	b.write(")")
}

// patterns turns the text operators into patterns of like. The backslash is
// like's own escape character, which the language does not have.
var patterns = map[operator]func(string) string{
	starts:   func(s string) string { return wildcards.Replace(s) + "%" },
	ends:     func(s string) string { return "%" + wildcards.Replace(s) },
	contains: func(s string) string { return "%" + wildcards.Replace(s) + "%" },
	like:     strings.NewReplacer(`\`, `\\`).Replace,
}

var wildcards = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

func (c condition) sql(b *compiler) {
	column := c.column(b)
	switch {
	case len(c.values) == 0 && c.op == equal:
		b.write(column, " is null")
	case len(c.values) == 0:
		b.write(column, " is not null")
	case patterns[c.op] != nil:
		b.write(column, " like ", b.bind(patterns[c.op](c.values[0].text)))
	case c.op == unequal:
		b.write(column, " is distinct from ", c.parameter(b, c.values[0]))
	case c.op == oneOf:
		b.write(column, " in ", c.list(b))
	case c.op == noneOf:
		b.write("(", column, " is null or ", column, " not in ", c.list(b), ")")
	default:
		b.write(column, " ", string(c.op), " ", c.parameter(b, c.values[0]))
	}
}

// column is the left side. Text gets the collation in which order and lower()
// are what Match takes them for; plain equality is the same in all.
func (c condition) column(b *compiler) string {
	column := c.field.Column
	plain := c.op == equal || c.op == unequal || c.op == oneOf || c.op == noneOf
	switch {
	case c.field.Kind != Text || len(c.values) == 0 || c.fold == nil && plain:
		return column
	case c.fold == nil:
		return column + ` collate "C"`
	case len(c.fold.from) == 0:
		return `lower(` + column + ` collate "C")`
	}
	return `translate(lower(` + column + ` collate "C"), ` + b.bind(string(c.fold.from)) + ", " + b.bind(string(c.fold.to)) + ")"
}

func (c condition) list(b *compiler) string {
	params := make([]string, len(c.values))
	for i, v := range c.values {
		params[i] = c.parameter(b, v)
	}
	return "(" + strings.Join(params, ", ") + ")"
}

func (c condition) parameter(b *compiler, v value) string {
	switch c.field.Kind {
	case Number:
		return "cast(" + b.bind(v.text) + " as numeric)"
	case Time:
		return b.bind(v.at)
	default:
		return b.bind(v.text)
	}
}
