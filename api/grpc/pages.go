package grpc

import (
	"fmt"
	"unicode/utf8"

	"github.com/google/uuid"
)

// pageSize is what a request asks for, within 1..most.
func pageSize(asked int32, def, most int) (int, error) {
	switch size := int(asked); {
	case size == 0:
		return def, nil
	case size < 0, size > most:
		return 0, bad("page_size", fmt.Sprintf("must be 1..%d", most))
	default:
		return size, nil
	}
}

// pageToken reads a next_page_token; uuid.Nil is the first page.
func pageToken(s string) (uuid.UUID, error) {
	if s == "" {
		return uuid.Nil, nil
	}
	at, err := uuid.Parse(s)
	if err != nil || at.String() != s { // only as we write them
		return uuid.Nil, bad("page_token", "must be a next_page_token")
	}
	return at, nil
}

// text reports a text of 1 to 255 characters.
func text(s string) bool {
	n := utf8.RuneCountInString(s)
	return n >= 1 && n <= 255
}
