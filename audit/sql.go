package audit

import (
	"strconv"
	"strings"
)

const columns = "tenant_id, id, at, action, actor, subject, user_id, app_id, outcome, detail"

// NArgs is how many arguments Args makes.
const NArgs = 10

const sqlInsert = `insert into audit_event (` + columns + `)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`

// The casts give the parameters their types: in INSERT ... SELECT the target
// columns do not.
var casts = [NArgs]string{"text", "uuid", "timestamptz", "text", "text", "text", "text", "text", "text", "jsonb"}

// After returns the end of a statement that appends one event for each row of
// the common table expression named cte; its arguments start at $first:
//
//	"with moved as (update ... returning id) " + audit.After("moved", 7)
//
// The command tag then counts events, which is to say changed rows. The text is
// made of constants only; call it once, at package level.
func After(cte string, first int) string {
	var b strings.Builder
	b.WriteString("insert into audit_event (" + columns + ") select ")
	for i, t := range casts {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("$" + strconv.Itoa(first+i) + "::" + t)
	}
	b.WriteString(" from " + cte)
	return b.String()
}

// The time window of a listing is turned into ids by the caller. An empty user
// lists the whole tenant; the two texts keep one index each.
const (
	sqlListTenant = `select tenant_id, id, at, action, actor, subject, user_id, app_id, outcome, detail
from audit_event
where tenant_id = $1 and id >= $2 and id < $3 and (cardinality($4::text[]) = 0 or app_id = any($4))
order by id desc limit $5`

	sqlListUser = `select tenant_id, id, at, action, actor, subject, user_id, app_id, outcome, detail
from audit_event
where tenant_id = $1 and id >= $2 and id < $3 and (cardinality($4::text[]) = 0 or app_id = any($4)) and user_id = $6
order by id desc limit $5`

	// What stands under the registration, and what its device did elsewhere.
	sqlHistory = `select tenant_id, id, at, action, actor, subject, user_id, app_id, outcome, detail
from audit_event
where tenant_id = $1 and user_id = $2 and app_id = $3 and id < $4 and (subject = $5 or detail->>'registration' = $5)
order by id desc limit $6`

	// Packs that may hold something of a range, newest first.
	sqlPacks = `select id, events from audit_pack
where tenant_id = $1 and id >= $2 and id < $3 and first_id < $4 and (cardinality($5::text[]) = 0 or apps && $5)
order by id desc limit $6`

	sqlPacksUser = `select id, events from audit_pack
where tenant_id = $1 and id >= $2 and id < $3 and first_id < $4 and (cardinality($5::text[]) = 0 or apps && $5) and users @> $7::text[]
order by id desc limit $6`
)
