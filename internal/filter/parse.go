package filter

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Parse reads a filter over a list's properties. The error is an *Error.
func Parse(text string, fields Fields) (Expr, error) {
	p := &parser{fields: fields}
	if !utf8.ValidString(text) {
		for i, c := range text {
			if c == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)) {
				break
			}
			p.pos++
		}
		return Expr{}, p.expected("UTF-8")
	}
	p.text = []rune(text)
	if len(p.text) > maxLength {
		p.pos = maxLength
		return Expr{}, p.expected(fmt.Sprintf("the end: a filter has at most %d characters", maxLength))
	}
	if p.space(); p.end() {
		return Expr{}, nil
	}
	root, err := p.disjunction()
	if err != nil {
		return Expr{}, err
	}
	if !p.end() {
		return Expr{}, p.expected("and, or, or the end")
	}
	return Expr{root}, nil
}

type parser struct {
	text   []rune
	fields Fields
	pos    int // of the next character
	depth  int // open brackets
	terms  int // values read
}

func (p *parser) fail(at int, format string, args ...any) error {
	return &Error{Column: at + 1, Hint: fmt.Sprintf(format, args...), kind: ErrSyntax}
}

func (p *parser) expected(what string) error { return p.fail(p.pos, "expected %s", what) }

func (p *parser) end() bool { return p.pos == len(p.text) }

// next is the next character, NUL at the end.
func (p *parser) next() rune {
	if p.end() {
		return 0
	}
	return p.text[p.pos]
}

func (p *parser) space() {
	for !p.end() && strings.ContainsRune(" \t\r\n", p.text[p.pos]) {
		p.pos++
	}
}

// take steps over s if it comes next.
func (p *parser) take(s string) bool {
	for i := range len(s) { // ASCII only
		if p.pos+i >= len(p.text) || p.text[p.pos+i] != rune(s[i]) {
			return false
		}
	}
	p.pos += len(s)
	return true
}

// word reads characters while they belong to it.
func (p *parser) word(belongs func(rune) bool) string {
	from := p.pos
	for !p.end() && belongs(p.text[p.pos]) {
		p.pos++
	}
	return string(p.text[from:p.pos])
}

// logical steps over one spelling of a logical operator.
func (p *parser) logical(lower, upper, symbol string) bool {
	p.space()
	if p.take(symbol) {
		return true
	}
	from := p.pos
	if w := p.word(isWord); w == lower || w == upper {
		return true
	}
	p.pos = from
	return false
}

func (p *parser) disjunction() (node, error) {
	return p.joined(true, p.conjunction, func() bool { return p.logical("or", "OR", "||") })
}

func (p *parser) conjunction() (node, error) {
	return p.joined(false, p.factor, func() bool { return p.logical("and", "AND", "&&") })
}

func (p *parser) joined(or bool, part func() (node, error), more func() bool) (node, error) {
	g := group{or: or}
	for {
		n, err := part()
		if err != nil {
			return nil, err
		}
		g.nodes = append(g.nodes, n)
		if !more() {
			break
		}
	}
	if len(g.nodes) == 1 {
		return g.nodes[0], nil
	}
	return g, nil
}

func (p *parser) factor() (node, error) {
	p.space()
	open := p.pos
	if !p.take("(") {
		return p.condition()
	}
	if p.depth++; p.depth > maxDepth {
		return nil, p.fail(open, "brackets must not be nested deeper than %d", maxDepth)
	}
	n, err := p.disjunction()
	if err != nil {
		return nil, err
	}
	if !p.take(")") {
		return nil, p.expected(") or a logical operator")
	}
	p.depth--
	return n, nil
}

func (p *parser) condition() (node, error) {
	from := p.pos
	if !isLetter(p.next()) {
		return nil, p.expected("a property name or (")
	}
	c := condition{name: p.word(isWord)}
	var known bool
	if c.field, known = p.fields.Names[c.name]; !known {
		name := c.name
		if len(name) > maxEcho {
			name = name[:maxEcho] + "..."
		}
		return nil, &Error{
			Column: from + 1, Hint: fmt.Sprintf("there is no property %s; expected one of %s", name, p.fields.known()), kind: ErrProperty,
		}
	}
	if err := p.operator(&c); err != nil {
		return nil, err
	}
	if err := p.values(&c); err != nil {
		return nil, err
	}
	folds, err := p.flags()
	if err != nil {
		return nil, err
	}
	if folds && c.field.Kind == Text {
		if c.fold = newFolding(c.values); c.fold.letters > maxFolded {
			return nil, p.fail(from, "[i] takes at most %d different letters beyond a-z", maxFolded)
		}
		for i := range c.values {
			c.values[i].text = c.fold.apply(c.values[i].text)
		}
	}
	return c, nil
}

// symbols are the operators that are no words, the longer ones first.
var symbols = []operator{unequal, noneOf, starts, ends, contains, atLeast, atMost, "<>", greater, less, equal}

func (p *parser) operator(c *condition) error {
	p.space()
	from := p.pos
	for _, s := range symbols {
		if p.take(string(s)) {
			c.op = s
			break
		}
	}
	switch {
	case c.op == "<>":
		c.op = unequal
	case c.op == noneOf && isWord(p.next()): // !inside
		c.op = ""
	case c.op == "":
		if w := operator(p.word(isWord)); w == like || w == oneOf {
			c.op = w
		}
	}
	switch c.op {
	case "":
		return p.fail(from, "expected an operator: %s", allOperators)
	case starts, ends, contains, like:
		if c.field.Kind != Text {
			return p.fail(from, "%s is not text; expected one of %s", c.name, orderOperators)
		}
	}
	return nil
}

func (p *parser) values(c *condition) error {
	p.space()
	if c.op != oneOf && c.op != noneOf {
		return p.value(c)
	}
	if !p.take("{") {
		return p.expected("{ and a list of values")
	}
	for {
		p.space()
		if err := p.value(c); err != nil {
			return err
		}
		p.space()
		if p.take("}") {
			return nil
		}
		if !p.take(",") {
			return p.expected(", or }")
		}
	}
}

// value reads one value and adds it to c's, or leaves c's empty for null.
func (p *parser) value(c *condition) error {
	from := p.pos
	if p.terms++; p.terms > maxTerms {
		return p.fail(from, "a filter has at most %d values", maxTerms)
	}
	text, quoted, err := p.constant()
	if err != nil {
		return err
	}
	if !quoted && (text == "null" || text == "NULL") {
		if c.op != equal && c.op != unequal {
			return p.fail(from, "expected a value: null can only be compared by =, != and <>")
		}
		return nil
	}
	v, ok := value{text: text}, true
	switch c.field.Kind {
	case Number:
		if v.num, ok = parseNumber(text); !ok {
			return p.fail(from, "expected a number")
		}
	case Time:
		if v.at, ok = parseTime(text); !ok {
			return p.fail(from, `expected a time like "2026-11-22T17:00:00.123456Z" in quotes, or a date like 2026-11-22`)
		}
	}
	c.values = append(c.values, v)
	return nil
}

// constant reads a bare or a quoted value.
func (p *parser) constant() (text string, quoted bool, err error) {
	if quote := p.next(); quote == '\'' || quote == '"' || quote == '`' {
		open := p.pos
		p.pos++
		length := slices.Index(p.text[p.pos:], quote)
		if length < 0 {
			return "", true, p.fail(open, "expected a closing %c", quote)
		}
		s := p.text[p.pos : p.pos+length]
		if nul := slices.Index(s, 0); nul >= 0 {
			return "", true, p.fail(p.pos+nul, "expected no NUL character")
		}
		p.pos += length + 1
		return string(s), true, nil
	}
	text = p.word(p.fields.bare)
	switch c := p.next(); {
	case p.end() || strings.ContainsRune(" \t\r\n[)},&|", c):
		if text == "" {
			return "", false, p.expected("a value")
		}
	case text == "":
		return "", false, p.expected("a value, in quotes because of its first character")
	default:
		return "", false, p.expected("a value in quotes: it has a character that needs them")
	}
	return text, false, nil
}

// flags reads [i], if it is there.
func (p *parser) flags() (fold bool, err error) {
	from := p.pos
	p.space()
	if !p.take("[") {
		p.pos = from
		return false, nil
	}
	for p.take("i") || p.take("I") {
		fold = true
	}
	if !p.take("]") {
		return false, p.expected("i or ]")
	}
	return fold, nil
}
