package lint

import "github.com/signet-hsm/signet/ca/issuance"

// Compiled casts a mould from a candidate and returns its check.
func Compiled(c *issuance.Candidate) (func(tbs []byte) error, error) {
	t, err := parseTBS(c.TBS())
	if err != nil {
		return nil, err
	}
	m := newMould(c, &t)
	if m == nil {
		return nil, errTBS
	}
	return func(der []byte) error {
		t, err := parseTBS(der)
		if err != nil {
			return err
		}
		return m.check(&t)
	}, nil
}

// Full judges a candidate in full.
func Full(c *issuance.Candidate) error { return full(c) }

// Moulds counts the compiled checks in memory.
func (l *Linter) Moulds() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.moulds)
}
