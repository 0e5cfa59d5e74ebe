package problem_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/signet-hsm/signet/api/internal/problem"
	"github.com/signet-hsm/signet/fault"
)

type row struct {
	err    *fault.Error
	status int
}

func sentinel(r row) *fault.Error { return r.err }

func TestFind(t *testing.T) {
	t.Parallel()
	known := fault.New(fault.Conflict, "STATE", "wrong state")
	table := problem.NewTable([]row{{known, 409}, {fault.ErrUnavailable, 503}}, sentinel)

	for name, c := range map[string]struct {
		err    error
		status int // 0: no row
	}{
		"the sentinel":       {known, 409},
		"wrapped":            {fmt.Errorf("x: %w: %w", known, errors.New("cause")), 409},
		"with violations":    {known.With(fault.Violation{Field: "f"}), 409},
		"outage":             {fmt.Errorf("db: %w", fault.ErrUnavailable), 503},
		"another outage":     {fault.New(fault.Unavailable, "HSM_PIN", "x"), 503},
		"not declared here":  {fault.New(fault.NotFound, "OTHER", "x"), 0},
		"same reason, other": {fault.New(fault.NotFound, "STATE", "x"), 0},
		"plain":              {errors.New("boom"), 0},
		"nil":                {nil, 0},
	} {
		r, _, ok := table.Find(c.err)
		require.Equal(t, c.status != 0, ok, name)
		require.Equal(t, c.status, r.status, name)
	}
}

func TestTablesThatCanNotWorkPanic(t *testing.T) {
	t.Parallel()
	e := fault.New(fault.Conflict, "STATE", "x")
	require.Panics(t, func() { problem.NewTable([]row{{e, 409}}, sentinel) })
	require.Panics(t, func() { problem.NewTable([]row{{e, 409}, {e, 400}, {fault.ErrUnavailable, 503}}, sentinel) })
}
