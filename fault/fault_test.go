package fault_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/fault"
)

func TestOfFindsTheSentinelThroughWrapping(t *testing.T) {
	sentinel := fault.New(fault.Conflict, "STATE", "wrong state")
	err := fmt.Errorf("commit: %w", fmt.Errorf("%w: was ACTIVE", sentinel))
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	require.ErrorIs(t, err, sentinel)
	require.Equal(t, "wrong state", fault.Of(err).Message)
}

// A named interface type once made every error look like the caller's fault in
// a peer; a plain error must never match.
func TestForeignErrorsAreInternal(t *testing.T) {
	require.Nil(t, fault.Of(errors.New("boom")))
	require.Nil(t, fault.Of(nil))
	require.Equal(t, fault.Internal, fault.KindOf(errors.New("boom")))
}

func TestWithKeepsIdentityAndLeavesTheSentinelAlone(t *testing.T) {
	sentinel := fault.New(fault.Invalid, "REQUEST", "bad request")
	err := sentinel.With(fault.Violation{Field: "userId", Hint: "must not be blank"})
	require.ErrorIs(t, err, sentinel)
	require.Len(t, err.Violations, 1)
	require.Empty(t, sentinel.Violations)
	require.NotErrorIs(t, err, fault.New(fault.Invalid, "OTHER", "x"))
}

func TestKindNames(t *testing.T) {
	require.Equal(t, "unavailable", fault.Unavailable.String())
	require.Equal(t, "internal", fault.Kind(200).String())
}
