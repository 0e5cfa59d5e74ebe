package ast

import (
	"strconv"
	"strings"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/ca"
)

const (
	maxPage     = 1<<31 - 1
	minPageSize = 5
	maxPageSize = 100
	defPageSize = 20
)

// page reads what the lists of the CA have in common. The filter is judged by the
// domain, which knows the properties.
func page(r *rest.Request) (ca.Page, error) {
	var c rest.Check
	p := ca.Page{
		Number: c.QueryInt(r, "page", 1, 1, maxPage),
		Size:   c.QueryInt(r, "page_size", defPageSize, minPageSize, maxPageSize),
	}
	p.Filter, _ = c.Query(r, "filter")
	return p, c.Err()
}

// listed is a page: a bare array, and the size of the whole list in a header.
func listed[T any](list []T, total int) rest.Response {
	resp := rest.OK(list)
	resp.Header = map[string]string{"X-Total-Count": strconv.Itoa(total)}
	return resp
}

// isULID accepts the canonical form: 26 characters of Crockford's alphabet, the
// first 0..7.
func isULID(s string) bool {
	const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	return len(s) == 26 && s[0] <= '7' && strings.Trim(s, alphabet) == ""
}
