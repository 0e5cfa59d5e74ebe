package envelope

import (
	"encoding/binary"
	"fmt"

	"github.com/signet-hsm/signet/tenant"
)

// Field is the place of a sealed value. All parts must be non-empty; Row is the
// rest of the primary key in one canonical spelling.
type Field struct {
	Tenant             tenant.ID
	Table, Column, Row string
}

func (f Field) check() error {
	if f.Tenant.IsZero() || f.Table == "" || f.Column == "" || f.Row == "" {
		return fmt.Errorf("envelope: %w: incomplete place %s.%s of tenant %q, row %q", ErrField, f.Table, f.Column, f.Tenant, f.Row)
	}
	return nil
}

const (
	format    = 0x01 // of blob and place alike
	headerLen = 1 + 4
	nonceLen  = 12
	tagLen    = 16
	minLen    = headerLen + nonceLen + tagLen
)

// appendPlace appends the unambiguous encoding of a place: every part carries
// its length, so no two places encode alike.
func appendPlace(dst []byte, f Field, version uint32) []byte {
	dst = append(dst, format)
	dst = binary.BigEndian.AppendUint32(dst, version)
	for _, s := range [...]string{f.Tenant.String(), f.Table, f.Column, f.Row} {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
		dst = append(dst, s...)
	}
	return dst
}

// dekAAD binds a sealed DEK to its row in table dek.
func dekAAD(p purpose, version uint32) []byte {
	t, format := p.tenant.String(), "signet/dek/1"
	if p.table != "" {
		format = "signet/dek/2"
	}
	b := append(make([]byte, 0, 64), format...)
	b = binary.BigEndian.AppendUint32(b, version)
	b = binary.BigEndian.AppendUint32(b, uint32(len(t)))
	b = append(b, t...)
	if p.table != "" {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p.table)))
		b = append(b, p.table...)
	}
	return b
}
