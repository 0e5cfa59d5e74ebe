package hsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// SelfTest refuses a token that holds a key which can do more than its role, or
// whose guards are off: ErrTemplate, with every such key and the attribute that
// differs. Who serves calls it first. That the module keeps keys to their
// attributes was proved when the engine was opened (ErrSeparation).
//
// Halves of keys and keys that are not unique are not usable and no danger; they
// are logged when they are seen.
func (t *Token) SelfTest(ctx context.Context) error {
	found, err := t.engine.Keys(ctx)
	if err != nil {
		return err
	}
	var bad []string
	for _, f := range found {
		if f.Bad != nil && errors.Is(f.Bad, ErrTemplate) {
			bad = append(bad, f.Bad.Error())
		}
	}
	if len(bad) == 0 {
		return nil
	}
	slices.Sort(bad)
	return fmt.Errorf("hsm: self test: %w: %d keys: %s", ErrTemplate, len(bad), strings.Join(bad, "; "))
}
