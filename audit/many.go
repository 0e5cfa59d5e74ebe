package audit

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// Many is the events of one statement that AfterMany ends: columns instead of
// rows, because that is how arrays go to the database.
type Many struct {
	tenant, action, actor, subject, userID, appID, outcome []string
	id                                                     []pgtype.UUID
	at                                                     []time.Time
	detail                                                 []*string // JSON; as text, which the statement casts
}

// Grow makes room for n more events.
func (m *Many) Grow(n int) {
	for _, c := range []*[]string{&m.tenant, &m.action, &m.actor, &m.subject, &m.userID, &m.appID, &m.outcome} {
		*c = slices.Grow(*c, n)
	}
	m.id, m.at, m.detail = slices.Grow(m.id, n), slices.Grow(m.at, n), slices.Grow(m.detail, n)
}

// Add appends an event as Log.Args encoded it.
func (m *Many) Add(args []any) {
	m.tenant = append(m.tenant, args[0].(string))
	m.id = append(m.id, args[1].(pgtype.UUID))
	m.at = append(m.at, args[2].(time.Time))
	m.action = append(m.action, args[3].(string))
	m.actor = append(m.actor, args[4].(string))
	m.subject = append(m.subject, args[5].(string))
	m.userID = append(m.userID, args[6].(string))
	m.appID = append(m.appID, args[7].(string))
	m.outcome = append(m.outcome, args[8].(string))
	var detail *string
	if b := args[9].([]byte); b != nil {
		s := string(b)
		detail = &s
	}
	m.detail = append(m.detail, detail)
}

// Args are the arguments of the statement that AfterMany ends, NArgs of them.
func (m *Many) Args() []any {
	return []any{m.tenant, m.id, m.at, m.action, m.actor, m.subject, m.userID, m.appID, m.outcome, m.detail}
}

// AfterMany returns a statement that appends, of the events whose arrays start at
// $first, those whose number (1 and up) stands in the column n of the common
// table expression cte. The text is made of constants only; call it once, at
// package level.
func AfterMany(cte, n string, first int) string {
	var b strings.Builder
	b.WriteString("insert into audit_event (" + columns + ") select ")
	for i, c := range strings.Split(columns, ", ") {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("e." + c)
		if casts[i] == "jsonb" {
			b.WriteString("::jsonb")
		}
	}
	b.WriteString(" from unnest(")
	for i, t := range casts {
		if i > 0 {
			b.WriteString(", ")
		}
		if t == "jsonb" {
			t = "text"
		}
		b.WriteString("$" + strconv.Itoa(first+i) + "::" + t + "[]")
	}
	b.WriteString(") with ordinality as e(" + columns + ", n) join " + cte + " on " + cte + "." + n + " = e.n")
	return b.String()
}
