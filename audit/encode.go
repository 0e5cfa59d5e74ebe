package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"math"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	eventFormat = "signet/audit-event/1"
	packFormat  = "signet/audit-pack/1"
	linkFormat  = "signet/audit-chain/1"
)

// digest is a link of a chain; the zero digest stands before the first.
type digest = [sha256.Size]byte

// toDigest takes what a database holds, which may be of any length.
func toDigest(b []byte) (d digest) {
	if len(b) == len(d) {
		d = digest(b)
	}
	return d
}

// stored is an event as the database holds it, whatever somebody made of it: to
// judge a row it must be readable first.
type stored struct {
	id                                             pgtype.UUID
	at                                             pgtype.Timestamptz // may be infinite
	action, actor, subject, userID, appID, outcome string
	detail                                         []byte // JSON, or nil

	// Of a pack, which has nothing of the above but its id.
	first       pgtype.UUID // not valid: an event
	users, apps []pgtype.Text
	events      pgtype.Text
}

// fields are the targets of the columns below id.
func (s *stored) fields() []any {
	return []any{
		&s.at, &s.action, &s.actor, &s.subject, &s.userID, &s.appID, &s.outcome, &s.detail,
		&s.first, &s.users, &s.apps, &s.events,
	}
}

// append appends what is hashed of a row.
func (s *stored) append(dst []byte, tenant string) ([]byte, error) {
	if s.first.Valid {
		return appendPack(dst, tenant, s), nil
	}
	return appendEvent(dst, tenant, s)
}

// appendPack appends the encoding of a pack, as appendEvent does: its text is taken
// as it is, and the lists by which it is found are hashed with it.
func appendPack(dst []byte, tenant string, s *stored) []byte {
	dst = appendText(dst, packFormat)
	dst = appendText(dst, tenant)
	dst = append(dst, s.id.Bytes[:]...)
	dst = append(dst, s.first.Bytes[:]...)
	for _, list := range [...][]pgtype.Text{s.users, s.apps} {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(list)))
		for _, text := range list {
			if !text.Valid { // nobody writes it; a length that no text has
				dst = binary.BigEndian.AppendUint32(dst, math.MaxUint32)
				continue
			}
			dst = appendText(dst, text.String)
		}
	}
	return appendText(dst, s.events.String)
}

// appendEvent appends the encoding that is hashed: the format's name, then each
// column with its length before it, so that no two events have one encoding.
// Time is in microseconds; detail is JSON with sorted names and without blanks,
// numbers as they are written, because jsonb keeps their digits and a float would
// not.
func appendEvent(dst []byte, tenant string, s *stored) ([]byte, error) {
	dst = appendText(dst, eventFormat)
	dst = appendText(dst, tenant)
	dst = append(dst, s.id.Bytes[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(micros(s.at)))
	for _, text := range [...]string{s.action, s.actor, s.subject, s.userID, s.appID, s.outcome} {
		dst = appendText(dst, text)
	}
	if s.detail == nil {
		return append(dst, 0), nil
	}
	detail := jsontext.Value(s.detail)
	if err := detail.Canonicalize(jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false)); err != nil {
		return nil, err
	}
	return appendText(append(dst, 1), string(detail)), nil
}

func appendText(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

func micros(t pgtype.Timestamptz) int64 {
	switch t.InfinityModifier {
	case pgtype.Infinity:
		return math.MaxInt64
	case pgtype.NegativeInfinity:
		return math.MinInt64
	}
	return t.Time.UnixMicro()
}

// chain computes links; it keeps its buffer.
type chain struct {
	tenant string
	seq    int64
	hash   digest
	buf    []byte
}

// next is the link that s makes after the chain's end. It does not move the end.
func (c *chain) next(s *stored) (digest, error) {
	b := appendText(c.buf[:0], linkFormat)
	b = binary.BigEndian.AppendUint64(b, uint64(c.seq+1))
	b = append(b, c.hash[:]...)
	b, err := s.append(b, c.tenant)
	if err != nil {
		return digest{}, err
	}
	c.buf = b
	return sha256.Sum256(b), nil
}

// add moves the end to a link.
func (c *chain) add(link digest) { c.seq, c.hash = c.seq+1, link }
