package filter

import (
	"math/big"
	"time"
)

// Expr is a parsed filter. The zero Expr, which is also what an empty text gives,
// lets every row pass.
type Expr struct{ root node }

// IsZero reports whether the filter lets every row pass because it says nothing.
func (e Expr) IsZero() bool { return e.root == nil }

// And joins filters, for lists that take several at once.
func And(filters ...Expr) Expr {
	var g group
	for _, f := range filters {
		if f.root != nil {
			g.nodes = append(g.nodes, f.root)
		}
	}
	if len(g.nodes) == 0 {
		return Expr{}
	}
	return Expr{g}
}

// node is a condition or a group of them.
type node interface {
	match(row func(string) Value) bool
	sql(b *compiler)
}

type group struct {
	or    bool
	nodes []node
}

type operator string

const (
	equal    operator = "="
	unequal  operator = "!=" // also written <>
	less     operator = "<"
	atMost   operator = "<="
	greater  operator = ">"
	atLeast  operator = ">="
	starts   operator = "^="
	ends     operator = "$="
	contains operator = "*="
	like     operator = "like"
	oneOf    operator = "in"
	noneOf   operator = "!in"
)

// For errors.
const (
	allOperators   = "= != <> ^= $= *= > >= < <= like in !in"
	orderOperators = "= != <> > >= < <= in !in"
)

// condition compares a property with its values: one, or those of a list, or none
// when it is compared with null.
type condition struct {
	name   string
	field  Field
	op     operator
	values []value
	fold   *folding // nil: case counts
}

// value is a constant of a filter, in the form of its property's kind.
type value struct {
	text string // as written; folded if the condition folds
	num  *big.Rat
	at   time.Time
}
